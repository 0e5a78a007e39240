"""The books of all kills: who held what when it died, so that every extra LM call can be explained or not."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.rows import read_rows
from tests.faults.stage import Stage
from tests.faults.workers import Life


@dataclass(frozen=True, slots=True)
class Kill:
    """One killed worker.

    Attributes:
        at: ``time.monotonic()`` of its end.
        key: The API key of the life that ended.
        jobs: Numbers of the jobs whose LM it had called, and whose result was not stored.
    """

    at: float
    key: str
    jobs: frozenset[int]


@dataclass(slots=True)
class Ledger:
    """Kills, in the order in which they happened."""

    kills: list[Kill] = field(default_factory=list)
    _by_job: Counter[int] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        """LM calls in flight at all kills: made by the killed process, result not stored."""
        return sum(len(kill.jobs) for kill in self.kills)

    def kills_of(self, number: int) -> int:
        """Return in how many kills a job was in flight."""
        return self._by_job[number]

    def story_of(self, number: int) -> str:
        """Return the kills in which a job was in flight, for a message."""
        return ", ".join(f"{kill.key} at {kill.at:.3f}" for kill in self.kills if number in kill.jobs) or "none"

    async def kill(self, stage: Stage, life: Life) -> Kill:
        """Kill a worker with -9 and write down what it held."""
        await life.kill()
        return await self.note(stage, life)

    async def note(self, stage: Stage, life: Life) -> Kill:
        """Write down what a worker held that was killed just now.

        Call it before the lease is over: then its rows still name it.
        """
        at = time.monotonic()
        rows = await read_rows(stage.store_url, stage.namespace, only_running=True)
        held = {int(row.job_key[1:]) for row in rows if row.is_held_by(life.pid) and row.job_key[1:].isdecimal()}
        kill = Kill(at, life.key, frozenset(held & stage.lm.by_caller[life.key]))
        self.kills.append(kill)
        self._by_job.update(kill.jobs)
        return kill


async def fragile_workers(stage: Stage, lives: list[Life]) -> set[int]:
    """Return the process ids of the workers that hold a job which crashed twice before: a third crash ends it."""
    rows = await read_rows(stage.store_url, stage.namespace, only_running=True)
    return {life.pid for life in lives for row in rows if row.crashes >= 2 and row.is_held_by(life.pid)}
