"""The next stable Debian, unpacked into a folder: the worker with its RabbitMQ 4.0, and on its Python 3.13.

`make test` unpacks it before the tests; a test that is run alone unpacks it itself, which takes longer once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from debian_root import TRIXIE, Root, unpacked
from kept_folder import HOME
from local_services import RabbitNode, temporary_folder

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from tests.support.processes import COMMAND, WorkerProcess, clean_environment, worker_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"args": {"program_id": "answers", "inputs": {"text": "job-1"}}}


@pytest.fixture(scope="module")
def trixie() -> Root:
    return unpacked(TRIXIE)


@pytest.fixture(scope="module")
def node(trixie: Root) -> Iterator[RabbitNode]:
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq", version="4.0") as node:
        yield node


@pytest.fixture
async def lm_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
async def caller(amqp_url: str, namespace: str) -> AsyncIterator[Caller]:
    async with Caller(amqp_url, namespace) as caller:
        yield caller


async def run(*arguments: str, environment: dict[str, str]) -> str:
    """Run the command, which succeeds, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        COMMAND, *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


def inside(root: Root) -> dict[int, Path]:
    """Return the processes that run in a root, each with its working folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "root").readlink() == root.path:
                found[int(process.name)] = (process / "cwd").readlink()
    return found


def ancestors(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        while process > 1:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            yield process


def test_its_rabbitmq_runs_and_leaves_no_mount_behind(trixie, node):
    """The node says its version; its mounts are its own and end with it."""
    number = node.ctl("version").strip()
    mounts = Path("/proc/self/mountinfo").read_text()

    assert number.startswith("4.0.")
    assert str(trixie.path) not in mounts


async def test_a_worker_retries_buries_and_replays_on_its_rabbitmq(
    node: RabbitNode, lm_stub: LMStub, tmp_path: Path
) -> None:
    """A job climbs the delay ladder, ends as a dead letter, is listed, shown and replayed, and is answered."""
    settings = {"store_url": f"sqlite:///{tmp_path}/store.db", "delays_seconds": "0.2,0.5", "max_attempts": "3"}
    environment = worker_environment(lm_stub.url, amqp_url=node.url, **settings)
    environment["XDG_STATE_HOME"] = str(tmp_path)
    lm_stub.behaviour = failing(429)
    worker = WorkerProcess(environment)
    await worker.start()
    async with Caller(node.url, "dspex") as caller:
        await caller.create("text -> answer", id="answers")
        await caller.publish("execute", QUESTION, message_id="m1", correlation_id="c1")
        first = json.loads((await caller.reply("c1")).body)
        calls = lm_stub.calls
        looks = [await run("dead", *look, environment=environment) for look in (["list"], ["show", "execute"])]
        lm_stub.behaviour = lm_stub.answer
        replay = await run("dead", "replay", "execute", environment=environment)
        second = json.loads((await caller.reply("c1")).body)
        left = await caller.depth("execute.dead")

    assert (first["error_detail"]["code"], calls) == ("lm_rate_limited", 3)
    assert ["m1" in printed for printed in looks] == [False, True]
    assert "1 of 1 replayed" in replay
    assert second["result"]["outputs"] == {"answer": "42"}
    assert left == 0

    assert await worker.stop() == 0


def test_ctrl_c_leaves_nothing_of_it_running(trixie: Root) -> None:
    """Node and port mapper end with the command, and the mounts of both with them."""
    program = "import os, time; print(os.environ['DSPEX_AMQP_URL'], flush=True); time.sleep(60)"
    command = [sys.executable, "deploy/local_services.py", "--rabbitmq", "4.0", "--", sys.executable, "-c", program]
    environment = clean_environment()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment) as services:
        assert services.stdout is not None
        assert services.stdout.readline().startswith(b"amqp://")
        folders = {folder for process, folder in inside(trixie).items() if services.pid in ancestors(process)}
        services.send_signal(signal.SIGINT)
    left = {folder for folder in inside(trixie).values() if folder in folders}

    assert services.returncode == 128 + signal.SIGINT
    assert len(folders) == 1

    assert left == set()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and what it needs on Python 3.13, each package checked against the lock's hash."""
    folder = tmp_path_factory.mktemp("python3.13")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    ours = ["--no-config", "--python-version", "3.13", "--target", str(folder), "--cache-dir", str(HOME / "packages")]
    install = [str(Path(sys.executable).with_name("uv")), "pip", "install", *ours]
    for what in (["--require-hashes", "--requirement", "requirements.lock"], ["--no-deps", str(wheel)]):
        done = subprocess.run([*install, *what], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def command(trixie: Root, packages: Path) -> tuple[str, ...]:
    """``dspex-worker`` as Python 3.13 runs it."""
    return trixie.command("python3.13", str(packages / "bin/dspex-worker"), folder=packages)


@pytest.fixture
def environment(amqp_url: str, namespace: str, packages: Path, tmp_path: Path) -> dict[str, str]:
    """Settings of a worker without an LM, and nothing of the environment that runs the tests."""
    settings = clean_environment(amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{tmp_path}/store.db")
    return settings | {"PYTHONPATH": str(packages), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}


def test_the_wheel_tells_its_version_on_python_3_13(command: tuple[str, ...], environment: dict[str, str]) -> None:
    """Debian trixie's interpreter starts the installed command."""
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, env=environment)

    assert done.stdout.split()[-1:] == [version("dspex-worker")], done.stderr


async def test_a_worker_on_python_3_13_creates_and_executes(
    command: tuple[str, ...], environment: dict[str, str], caller: Caller
) -> None:
    """The offline LM answers; SIGTERM ends it in order."""
    worker = WorkerProcess(environment, command=command)
    await worker.start()
    await caller.create("text -> answer: integer", id="answers")
    reply = await caller.call("execute", QUESTION)
    code = await worker.stop()

    assert isinstance(reply["result"]["outputs"]["answer"], int)

    assert code == 0
