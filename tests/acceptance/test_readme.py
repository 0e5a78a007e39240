"""README.md as a stranger follows it: the lines of "Run it" and the script of "Call it", with a real broker and worker."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.pages import ROOT, blocks
from tests.support.processes import WorkerProcess, clean_environment

PAGE = "README.md"
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


def calls(amqp_url: str) -> str:
    """Return the lines of the second terminal, on another broker."""
    [shown] = blocks(PAGE, "sh")
    assert COMPOSE_URL in shown
    return shown.replace(COMPOSE_URL, amqp_url).replace(".venv/bin", BIN)


@pytest.mark.usefixtures("serving")
async def test_the_calls_of_the_second_terminal_succeed(environment: dict[str, str], amqp_url: str) -> None:
    """Each prints a reply, and the prediction has the field that it declares."""
    printed = await run("sh", "-e", "-c", calls(amqp_url), environment=environment)
    pong, prediction = [json.loads("{" + part) for part in ("\n" + printed).split("\n{")[1:]]

    assert pong["success"]
    assert list(prediction["result"]["outputs"]) == ["label"]


@pytest.mark.usefixtures("serving")
async def test_hello_py_prints_what_stands_below_it(
    environment: dict[str, str], namespace: str, tmp_path: Path
) -> None:
    """The script of the page, in the namespace of the test."""
    [script], [expected] = blocks(PAGE, "python"), blocks(PAGE, "text")
    path = tmp_path / "hello.py"
    path.write_text(script.replace("Client(os.", f"Client(namespace={namespace!r}, url=os."))

    assert expected == await run(sys.executable, str(path), environment=environment)


async def test_the_line_without_docker_starts_a_broker_and_a_worker() -> None:
    """It prints the `export` line for the second terminal, where the calls then succeed; Ctrl-C ends all of it."""
    line = next(line for block in blocks(PAGE, "") for line in block.splitlines() if "local_services.py" in line)
    command, environment = shlex.split(line.replace(".venv/bin", BIN)), clean_environment()
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(50):
            printed = await read_until("worker.ready", process=process)
            [export] = re.findall("^export DSPEX_AMQP_URL=.+$", printed, flags=re.MULTILINE)
            await run("sh", "-e", "-c", calls(export.partition("=")[2]), environment=environment)
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()

    assert process.returncode == 128 + signal.SIGINT


async def read_until(word: str, *, process: asyncio.subprocess.Process) -> str:
    """Return what a process prints up to the line with a word."""
    assert process.stdout is not None
    printed = ""
    async for line in process.stdout:
        printed += line.decode()
        if word in printed:
            break
    return printed
