"""Tell how a set-up of several commands goes on: a line for each stage, one every few seconds, nothing that scrolls.

What the commands themselves print is kept back and shown only where one fails: it is full of warnings about the
machine's own configuration, which are no fault of the set-up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from child_processes import ServiceError

__all__ = ["Stages", "folder_bytes"]


class Stages:
    """The stages of one set-up, each line with the seconds since the first.

    Lines go to stderr, plain and whole: they read the same on a terminal, in a file and in a CI's log.

    Args:
        folder: Working folder of all commands.
        pause_seconds: After this long without a line, a stage says how far it is.
    """

    def __init__(self, folder: Path, *, pause_seconds: float = 5.0) -> None:
        self._folder = folder
        self._pause_seconds = pause_seconds
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line."""
        seconds = time.monotonic() - self._started
        print(f"  [{seconds:3.0f} s] {text}", file=sys.stderr, flush=True)

    def run(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        progress: Callable[[], str] = lambda: "still at it",
    ) -> None:
        """Run a command in silence, but for a line now and then.

        Args:
            command: The program and its arguments.
            environment: The whole environment of the command; None for this process's own.
            progress: How far it is, in a few words.

        Raises:
            ServiceError: The command failed, or cannot be run; what it printed has been shown.
        """
        with tempfile.TemporaryFile() as output:
            code = self._wait(command, environment=environment, output=output.fileno(), progress=progress)
            if code != 0:
                output.seek(0)
                sys.stderr.write(output.read().decode(errors="replace"))
                raise ServiceError(f"`{' '.join(command)}` failed with code {code}; what it printed is above.")

    def _wait(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None,
        output: int,
        progress: Callable[[], str],
    ) -> int:
        try:
            process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ServiceError(f"Cannot run {command[0]}: {error.strerror}.") from error
        with process:
            while True:
                try:
                    return process.wait(timeout=self._pause_seconds)
                except subprocess.TimeoutExpired:
                    self.say(f"… {progress()}")


def folder_bytes(folder: Path) -> int:
    """Return the size of all files under a folder that others may be writing to: what goes away meanwhile counts 0."""
    return sum(_file_bytes(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
