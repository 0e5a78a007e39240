"""The demo's workers: the installed command, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path

TERMINATE_SECONDS = 5.0


class WorkerProcess:
    """One ``dspex-worker serve``, which logs into a file.

    Attributes:
        name: How the demo calls it.
        log: Its log file.
    """

    def __init__(self, name: str, *, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._environment = environment
        self._process: Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; it takes jobs a few seconds later."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "worker", "serve"),
                env=self._environment,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
            )

    async def kill(self) -> None:
        """End it as a crash would: ``kill -9``."""
        if self._process is not None and self.is_running:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Ask it to finish, and kill it if it takes too long."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


def worker_environment(amqp_url: str, *, namespace: str, folder: Path, lm_url: str) -> dict[str, str]:
    """Return the environment of the demo's workers: ours alone of all ``DSPEX_`` variables.

    The lease and the ladder are short, so that a takeover and a dead letter take seconds and not minutes.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DSPEX_", "DYNAMIC_SIG_"))}
    remote = {"model": "openai/gpt-4o-mini", "api_base": lm_url, "api_key": "not-a-key"}
    return inherited | {
        "DSPEX_AMQP_URL": amqp_url,
        "DSPEX_NAMESPACE": namespace,
        "DSPEX_STORE_URL": f"sqlite:///{folder / 'demo.db'}",
        "DSPEX_LM_MODEL": "offline",
        "DSPEX_LMS": json.dumps({REMOTE_LM: remote}),
        "DSPEX_LEASE_SECONDS": "2",
        "DSPEX_DELAYS_SECONDS": ",".join(str(delay) for delay in DELAYS_SECONDS),
        "DSPEX_MAX_ATTEMPTS": "2",
        "DSPEX_CONCURRENCY": "16",
        "DSPEX_LOG_FORMAT": "json",
        "DSPY_CACHEDIR": str(folder / "dspy"),
    }


REMOTE_LM = "remote"
DELAYS_SECONDS = (0.2, 0.5, 1)
DELAYS_MS = tuple(round(delay * 1_000) for delay in DELAYS_SECONDS)
