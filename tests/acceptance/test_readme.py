"""README.md as a stranger follows it: each of its code blocks, with a real broker and worker.

The Elixir is run by ``clients/elixir/test/integration/readme_test.exs``, the demo by `tests/acceptance/test_demo.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import Caller
from tests.support.pages import ROOT, all_blocks, blocks, still
from tests.support.processes import WorkerProcess, clean_environment

README = "README.md"
OPERATIONS = "docs/OPERATIONS.md"
COMPOSE_URL = "amqp://dspex:dspex@127.0.0.1:5672/"
BIN = str(Path(sys.executable).parent)


@pytest.fixture
def environment(amqp_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    return clean_environment(amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
async def serving(environment: dict[str, str]) -> AsyncIterator[None]:
    process = WorkerProcess(environment)
    await process.start()
    yield
    await process.kill()


async def run(*command: str, environment: dict[str, str]) -> str:
    """Run a command in the project's folder and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return printed.decode()


def calls(page: str, amqp_url: str) -> str:
    """Return the lines of the second terminal, on another broker."""
    [shown] = [block for block in blocks(page, "sh") if "dspex-worker call" in block]
    assert COMPOSE_URL in shown
    return shown.replace(COMPOSE_URL, amqp_url).replace(".venv/bin", BIN)


def replies(printed: str) -> list[dict[str, Any]]:
    """Return the JSON objects that commands printed one after the other."""
    return [json.loads("{" + part) for part in ("\n" + printed).split("\n{")[1:]]


@pytest.mark.usefixtures("serving")
async def test_the_calls_of_the_second_terminal_succeed(environment: dict[str, str], amqp_url: str) -> None:
    """On both pages each prints a reply, and the prediction has the field that it declares."""
    lines = calls(README, amqp_url) + calls(OPERATIONS, amqp_url)
    call, pong, repeated = replies(await run("sh", "-e", "-c", lines, environment=environment))

    assert pong["success"]
    assert list(repeated["result"]["outputs"]) == ["label"]
    assert list(call["result"]["outputs"]) == ["label"]


@pytest.mark.usefixtures("serving")
async def test_hello_py_prints_what_stands_below_it(
    environment: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    """The script of the page, in the namespace of the test."""
    [script], expected = blocks(README, "python"), blocks(README, "text")[0]
    path = tmp_path / "hello.py"
    path.write_text(script.replace("Client(os.", f"Client(namespace={namespace!r}, url=os."))

    assert expected == await run(sys.executable, str(path), environment=environment)


@pytest.mark.usefixtures("serving")
async def test_the_raw_message_is_answered_as_shown(amqp_url: str, namespace: str) -> None:
    """Published as the page says: default exchange, queue's name as routing key, `reply_to` and `correlation_id`."""
    request, reply = blocks(README, "json")
    async with Caller(amqp_url, namespace) as caller:
        answered = await caller.call("execute", request.encode())

    assert still(json.loads(reply)) == still(answered)


def test_the_install_lines_give_a_command_that_works(tmp_path: Path) -> None:
    """In a new environment that finds the locked packages here instead of on an index."""
    [create, install] = next(block for block in blocks(README, "sh") if "pip install" in block).splitlines()
    enter("sh", "-c", create.replace("python3", sys.executable), home=tmp_path)
    [site_packages] = tmp_path.glob("dspex/lib/python3.*/site-packages")
    [locked] = Path(sys.prefix).glob("lib/python3.*/site-packages")
    (site_packages / "locked.pth").write_text(str(locked))
    installed = enter("sh", "-c", install, home=tmp_path)
    helped = enter(f"{tmp_path}/dspex/bin/dspex-worker", "--help", home=tmp_path)

    assert "Successfully installed dspex-worker" in installed
    assert (site_packages / "worker/__init__.py").exists()
    assert "serve" in helped


def enter(*command: str, home: Path) -> str:
    """Run a command in the project's folder, as a user with this home and without a package index."""
    environment = clean_environment() | {
        "HOME": str(home),
        "PIP_NO_INDEX": "1",
        # pip reads this one the other way round: isolation off, so that the build backend is found here too.
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_make_worker_starts_a_broker_and_a_worker() -> None:
    """It prints the `export` line for the second terminal, where the calls then succeed; Ctrl-C ends all of it."""
    # What a terminal's Ctrl-C reaches is a process group; .venv stays as it is while tests run in it.
    process = await asyncio.create_subprocess_exec(
        *("make", "--assume-old=.venv/.ready", "worker", f"BIN={BIN}"),
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(50):
            printed = await read_until("worker.ready", process=process)
            [export] = re.findall("^export DSPEX_AMQP_URL=.+$", printed, flags=re.MULTILINE)
            await run("sh", "-e", "-c", calls(README, export.partition("=")[2]), environment=clean_environment())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        await process.communicate()

    assert process.returncode == -signal.SIGINT


async def read_until(word: str, *, process: asyncio.subprocess.Process) -> str:
    """Return what a process prints up to the line with a word."""
    assert process.stdout is not None
    printed = ""
    async for line in process.stdout:
        printed += line.decode()
        if word in printed:
            break
    return printed


def test_no_block_of_the_page_is_left_out() -> None:
    """Each is the picture, the two make targets, or run by a test; a new one needs a test of its own."""
    kinds = Counter(block.language for block in all_blocks(README))

    assert kinds == {"": 2, "sh": 2, "python": 1, "elixir": 1, "text": 2, "json": 2}
