"""The installed command as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "dspex-worker")


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with no ``DSPEX_`` setting but the given ones."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("DSPEX_")}
    return inherited | {f"DSPEX_{name.upper()}": text for name, text in settings.items()}


def worker_environment(lm_url: str, **settings: str) -> dict[str, str]:
    """Return the environment of a worker whose LM is a stub, with these settings and no others."""
    lm = {"lm_model": "openai/gpt-4o-mini", "lm_api_base": lm_url, "lm_api_key": "sk-test"}
    return clean_environment(**lm, lm_structured_outputs="false", **settings)


class WorkerProcess:
    """One ``dspex-worker serve``, by default of the environment that runs the tests."""

    def __init__(self, environment: dict[str, str], *, command: Sequence[str] = (COMMAND,)) -> None:
        self._environment = environment
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.log = ""

    async def start(self, *, until: str = "worker.ready") -> None:
        """Start it and wait for a word in its log."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, "serve", env=self._environment, stderr=asyncio.subprocess.PIPE
        )
        self.log = ""
        self._reading = asyncio.create_task(self._read(self._process))
        await self.logged(until)

    async def logged(self, word: str) -> None:
        """Wait until a word stands in the log."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: word in self.log)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def kill(self) -> None:
        """End it with -9."""
        self.send(signal.SIGKILL)
        await self.exit_code()

    async def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self.send(signal.SIGTERM)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait for its end."""
        assert self._process is not None
        assert self._reading is not None
        code = await self._process.wait()
        await self._reading
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            async with self._changed:
                self.log += line.decode()
                self._changed.notify_all()
