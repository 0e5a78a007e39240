"""One run of ``dspex-worker demo``, as a shell sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from tests.support.processes import COMMAND

_LAST_SHOWN = "✓"
# With these rich takes a pipe for a terminal.
_MAKE_A_TERMINAL = {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}


class Run(NamedTuple):
    """What the demo printed, and its exit code."""

    exit_code: int
    printed: str

    @property
    def story(self) -> list[str]:
        """The lines up to the one that says how it went; what to type next comes after it."""
        lines = [line.rstrip() for line in self.printed.splitlines()]
        ends = [number for number, line in enumerate(lines, start=1) if line.startswith(_LAST_SHOWN)]
        return lines[: ends[0]] if ends else lines


def play(environment: Mapping[str, str]) -> Run:
    """Run the demo on the broker of ``DSPEX_AMQP_URL``, as if there were no terminal."""
    plain = {name: text for name, text in environment.items() if name not in _MAKE_A_TERMINAL}
    done = subprocess.run([COMMAND, "demo"], env=plain, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Run(done.returncode, done.stdout)
