"""Child processes: started, measured, and gone at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.errors import MeasurementError

# An idle worker stops within a second; one with jobs in hand, after Ctrl-C, would drain for minutes.
_STOP_SECONDS = 5.0
_ROOT = Path(__file__).parent.parent


class Child:
    """A running child process.

    Attributes:
        name: For messages.
        log: File with what it wrote to stderr.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._watched = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """Return user and system time so far, of all its threads; the kernel counts in steps of 10 ms."""
        try:
            times = self._watched.cpu_times()
        except psutil.NoSuchProcess:
            raise self.gone() from None
        return times.user + times.system

    def rss_mb(self) -> float:
        """Return resident memory in MB (10⁶ bytes)."""
        return self._watched.memory_info().rss / 1e6

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            MeasurementError: It does not.
        """
        if self._process.returncode is not None:
            raise self.gone()

    async def ask(self, line: str) -> str:
        """Write a line to its stdin and return the next one of its stdout."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        return await self.read_line()

    async def read_line(self) -> str:
        """Return the next line of its stdout.

        Raises:
            MeasurementError: It ended instead.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise self.gone()
        return line.decode().strip()

    async def stop(self) -> None:
        """Close its stdin and send SIGTERM; SIGKILL if that does not help within seconds."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def gone(self) -> MeasurementError:
        """Return the error for a process that ended too early, with the end of its log."""
        last_lines = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return MeasurementError(f"{self.name} ended too early:\n{last_lines}")


@asynccontextmanager
async def child(
    name: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    program: str = sys.executable,
    cwd: Path = _ROOT,
) -> AsyncIterator[Child]:
    """Run a child process inside the block.

    Args:
        name: For messages and its log file.
        *arguments: What follows the program on the command line.
        environment: All its variables.
        folder: Where its log goes.
        program: The executable; this Python by default.
        cwd: Where it runs: this checkout by default.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    started = Child(name, process, log)
    try:
        yield started
    finally:
        await started.stop()
