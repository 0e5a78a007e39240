"""The books of all kills: who held what when it died, so that every extra LM call can be explained or not."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.failpoints import SPARED_CRASHES
from tests.faults.rows import Row, read_rows
from tests.faults.stage import Stage
from tests.faults.workers import Life


@dataclass(frozen=True, slots=True)
class Kill:
    """One killed worker.

    Attributes:
        at: ``time.monotonic()`` of its end.
        key: The API key of the life that ended.
        held: Numbers of the jobs whose rows it held: each one counts a crash.
        jobs: Those of them whose LM it had called.
    """

    at: float
    key: str
    held: frozenset[int]
    jobs: frozenset[int]


@dataclass(slots=True)
class Ledger:
    """Kills, in the order in which they happened."""

    kills: list[Kill] = field(default_factory=list)
    _by_job: Counter[int] = field(default_factory=Counter)
    _held: Counter[int] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        """LM calls in flight at all kills: made by the killed process, result not stored."""
        return sum(len(kill.jobs) for kill in self.kills)

    def kills_of(self, number: int) -> int:
        """Return in how many kills a job was in flight."""
        return self._by_job[number]

    def crashes_of(self, number: int) -> int:
        """Return in how many kills a job was held, its LM called or not yet: as many crashes may be counted."""
        return self._held[number]

    def story_of(self, number: int) -> str:
        """Return the kills in which a job was in flight, for a message."""
        return ", ".join(f"{kill.key} at {kill.at:.3f}" for kill in self.kills if number in kill.jobs) or "none"

    async def kill(self, stage: Stage, life: Life) -> bool:
        """Kill a worker with -9 and write down what it held, unless it holds a job that crashed twice before.

        A third crash makes a job ``worker_lost``, which is another promise: docs/RELIABILITY.md says so beside the figures. It is frozen for the look, so that it
        claims nothing between look and kill.

        Returns:
            Whether it was killed.
        """
        await life.freeze()
        rows = await _rows_of(stage, life)
        if any(row.crashes >= SPARED_CRASHES for row in rows):
            life.send(signal.SIGCONT)
            return False
        await life.kill()
        # A claim whose commit was under way when it was frozen shows only now.
        self._write_down(stage, life, [*rows, *await _rows_of(stage, life)])
        return True

    async def note(self, stage: Stage, life: Life) -> Kill:
        """Write down what a worker held that was killed just now.

        Call it before the lease is over: then its rows still name it.
        """
        return self._write_down(stage, life, await _rows_of(stage, life))

    def _write_down(self, stage: Stage, life: Life, rows: list[Row]) -> Kill:
        held = frozenset(number for row in rows if (number := row.number) is not None)
        kill = Kill(time.monotonic(), life.key, held, held & stage.lm.by_caller[life.key])
        self.kills.append(kill)
        self._by_job.update(kill.jobs)
        self._held.update(kill.held)
        return kill


async def _rows_of(stage: Stage, life: Life) -> list[Row]:
    rows = await read_rows(stage.store_url, stage.namespace, only_running=True)
    return [row for row in rows if row.is_held_by(life.pid)]
