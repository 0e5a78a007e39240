"""The part in which Elixir publishes: the client of ``clients/elixir``, compiled and run where Elixir is installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.demo.errors import DemoError

_CLIENT = Path(__file__).parents[2] / "clients/elixir"
_SCRIPT = "examples/demo.exs"
_SHOWN_LINES = 10


def what_is_missing() -> str | None:
    """Return why Elixir cannot publish here, as the beginning of a sentence; None where it can."""
    if shutil.which("mix") is None:
        return "Elixir is not installed"
    if not (_CLIENT / _SCRIPT).exists():
        return "The Elixir client is not part of this installation"
    if "ERL_LIBS" not in os.environ:
        return "ERL_LIBS does not name RabbitMQ's Erlang libraries"
    return None


async def publish(amqp_url: str, *, namespace: str, folder: Path) -> list[dict[str, Any]]:
    """Have Elixir call the workers.

    Args:
        amqp_url: The broker.
        namespace: The workers'.
        folder: Where the compiled client goes, and what Mix leaves behind.

    Returns:
        For each call ``outputs``, and ``shown`` for how Elixir writes it all; or ``error``.

    Raises:
        DemoError: The script failed; with the end of what it said.
    """
    process = await asyncio.create_subprocess_exec(
        *("mix", "run", _SCRIPT),
        cwd=_CLIENT,
        env=_environment(amqp_url, namespace=namespace, folder=folder),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = printed.decode(errors="replace").splitlines()
    if process.returncode != 0:
        raise DemoError("\n".join(["Elixir failed:", *lines[-_SHOWN_LINES:]]))
    return _answers(lines)


def _answers(lines: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def _environment(amqp_url: str, *, namespace: str, folder: Path) -> dict[str, str]:
    return dict(os.environ) | {
        "AMQP_URL": amqp_url,
        "DSPEX_NAMESPACE": namespace,
        # No dependency is listed there, so none is fetched.
        "MIX_ENV": "test",
        "MIX_BUILD_PATH": str(folder / "elixir"),
        # Mix keeps locks there from 1.18 on, and never removes them.
        "TMPDIR": str(folder),
        # Else Elixir warns that file names are Latin-1.
        "LC_ALL": "C.UTF-8",
    }
