"""Mix with what the client's tests need: RabbitMQ's Erlang libraries, a broker, and two workers with the offline LM."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import WorkerProcess, clean_environment

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/elixir"
COMPAT = ROOT / "clients/elixir_compat"
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One run of Mix.

    Attributes:
        name: What it does, in a few words.
        project: The Mix project.
        arguments: What follows ``mix``.
    """

    name: str
    project: Path
    arguments: tuple[str, ...]


_FORMAT = ("format", "--check-formatted")
_COMPILE = ("compile", "--force", "--warnings-as-errors")
_TEST = ("test", "--warnings-as-errors", "--include", "integration")

TESTS = Step("test the client", CLIENT, _TEST)
_BENCHMARKS = tuple(str(path) for path in sorted((ROOT / "benchmarks/elixir").glob("*.ex*")))
STEPS = (
    Step("format of the client", CLIENT, _FORMAT),
    Step("format of the benchmarks", CLIENT, (*_FORMAT, *_BENCHMARKS)),
    Step("compile the client", CLIENT, _COMPILE),
    TESTS,
    Step("format of the compat project", COMPAT, _FORMAT),
    Step("compile the compat project", COMPAT, _COMPILE),
    Step("test the compat project", COMPAT, _TEST),
)


class MissingError(Exception):
    """Something that the tests need is not there; the message says what to do."""


def mix_environment(*, amqp_url: str, namespace: str) -> dict[str, str]:
    """Return the environment of Mix: ours alone of all settings, and no dependency fetched.

    Raises:
        MissingError: Elixir or RabbitMQ's Erlang libraries are missing.
    """
    if shutil.which("mix") is None or "ERL_LIBS" not in os.environ:
        raise MissingError("Elixir or RabbitMQ's Erlang libraries are missing: `make test-elixir` installs both.")
    return clean_environment(namespace=namespace, test_python=sys.executable) | {
        "AMQP_URL": amqp_url,
        "MIX_ENV": "test",
        # Else Elixir warns that file names are Latin-1.
        "LC_ALL": "C.UTF-8",
    }


@asynccontextmanager
async def workers(amqp_url: str, namespace: str, folder: Path) -> AsyncIterator[None]:
    """Run two workers with the offline LM and one store inside the block."""
    environment = clean_environment(
        amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{folder}/store.db", lease_seconds="2"
    )
    started = [WorkerProcess(environment) for _ in range(WORKERS)]
    try:
        await asyncio.gather(*(worker.start() for worker in started))
        yield
    finally:
        await asyncio.gather(*(worker.kill() for worker in started))


async def run(step: Step, *, environment: Mapping[str, str], more: Sequence[str] = ()) -> int:
    """Run a step, its output on ours, and return the exit code."""
    process = await asyncio.create_subprocess_exec(
        "mix", *step.arguments, *more, cwd=step.project, env=environment, stdin=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


async def capture(step: Step, *, environment: Mapping[str, str]) -> tuple[int | None, str]:
    """Run a step and return its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        "mix",
        *step.arguments,
        cwd=step.project,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode(errors="replace")


def fresh_namespace() -> str:
    """Return a namespace that nobody else has."""
    return f"elixir-{secrets.token_hex(4)}"
