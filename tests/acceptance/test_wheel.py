"""The wheel, as those have it who install the package and never see the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.processes import clean_environment
from tests.support.wheels import build_wheel, install_wheel
from worker import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# What an application would hold; mypy knows from the wheel what `execute` takes and returns.
SCRIPT = '''
"""Asks a worker for the mood of a text."""

import asyncio

from worker import __version__
from worker.client import Client, ReplyError


async def mood(url: str, text: str) -> str:
    """Return the mood of a text."""
    async with Client(url) as client:
        try:
            result = await client.execute("sentiment", {"text": text})
        except ReplyError as error:
            return f"{error.code} ({__version__})"
        return str(result["sentiment"])


print(asyncio.run(mood("amqp://guest:guest@127.0.0.1/", "I love it")))
'''


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commands(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that holds nothing but the wheel and what it needs."""
    return install_wheel(wheel, tmp_path_factory.mktemp("installed") / "environment")


@pytest.fixture
def own_environment(commands: Path, amqp_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has neither the repository nor Elixir: what is installed, and the system's tools."""
    kept = {name: text for name, text in clean_environment(amqp_url=amqp_url).items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(commands), "/usr/bin", "/bin"])
    return kept | {"PATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


def _run(*command: str | Path, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """Tests, deploy files and benchmarks stay out of what is installed; the mark that types are in it is there."""
    names = zipfile.ZipFile(wheel).namelist()

    assert {top for name in names if not (top := name.partition("/")[0]).endswith(".dist-info")} == {"worker"}
    assert "worker/py.typed" in names


def test_the_installed_command_tells_its_version(commands, own_environment, tmp_path):
    """Of the wheel, of the package and of the command: one."""
    done = _run(commands / "dspex-worker", "--version", folder=tmp_path, environment=own_environment)
    asked = "import worker, importlib.metadata as m; print(worker.__version__, m.version('dspex-worker'))"
    python = _run(commands / "python", "-c", asked, folder=tmp_path, environment=own_environment)

    assert done.stdout == f"dspex-worker {__version__}\n"
    assert python.stdout == f"{__version__} {__version__}\n"


def test_the_installed_command_runs_the_demo(commands, own_environment, tmp_path):
    """Against a broker, from an empty folder, and leaves nothing in it."""
    done = _run(commands / "dspex-worker", "demo", folder=tmp_path, environment=own_environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "201 of 201 jobs answered and valid" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_mypy_finds_the_types_of_the_client(commands, own_environment, tmp_path):
    """`mypy --strict` passes a user's script, and refuses one that misuses the client."""
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(SCRIPT)
    wrong.write_text(SCRIPT.replace('execute("sentiment", {"text": text})', "execute(1)"))
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", commands / "python", "--cache-dir=.mypy"]
    passed = _run(*mypy, right, folder=tmp_path, environment=own_environment)
    failed = _run(*mypy, wrong, folder=tmp_path, environment=own_environment)

    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "[arg-type]" in failed.stdout
