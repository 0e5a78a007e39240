"""Eight workers start at once on nothing, and jobs come twice: one run, one stored result, the same reply each time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass

from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import judge
from tests.faults.rooms import emptied
from tests.faults.rows import read_rows
from tests.faults.stage import Stage, StoreKind

_POLL_SECONDS = 0.1
_STALL_SECONDS = 60.0
# The default: eight processes that write to one file without a pause hold up each other's heartbeats.
_SETTINGS = {"lease_seconds": "10"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much, on each of the engines."""

    jobs: int
    workers: int
    duplicates: float
    engines: tuple[StoreKind, ...]
    is_installed: bool


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    figures: dict[str, int | float | str] = {}
    for engine in size.engines:
        for name, value in (await _try(engine, size, seed)).items():
            figures[name] = figures.get(name, 0) + value  # type: ignore[operator]
    return Measured(figures | {"seconds": time.monotonic() - began})


async def _try(engine: StoreKind, size: Size, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    order = _twice(size.jobs, round(size.jobs * size.duplicates), rng)
    async with (
        Stage.open(
            seed=seed, store=engine, settings=_SETTINGS, has_own_node=False, is_installed=size.is_installed
        ) as stage,
        stage.load() as load,
    ):
        async with stage.crew(size.workers) as crew:
            assert not crew.exits, f"workers ended while they started: {crew.exits}: {_last_words(stage)}"
            await load.create()
            await load.publish(order)
            await _each_answered(load, order)
            # Where two deliveries of a job wait for one run, the copies of one of them may still be on the ladder.
            await emptied(stage, patience_seconds=_STALL_SECONDS)
        assert not crew.exits, f"workers ended: {crew.exits}"
        # No worker dies here: one that is taken for dead is a fault of its own.
        verdict = await judge(stage, load, ledger=Ledger())
        rows = [row for row in await read_rows(stage.store_url, stage.namespace) if row.job_key.startswith("m")]
        faults = _errors(stage)
    assert not faults, f"{len(faults)} errors were logged: {faults[:3]}"
    stored = [row.job_key for row in rows if row.state == "done" and row.outcome == "success"]
    assert len(stored) == len(set(stored)) == len(rows) == size.jobs, f"{len(stored)} of {len(rows)} rows are results"
    return {
        "jobs": verdict.jobs,
        "published twice": len(order) - size.jobs,
        "stored results": len(stored),
        "LM calls": verdict.paid_calls,
        "replies": verdict.replied + verdict.duplicate_replies,
        "differing replies": verdict.differing,
        "lost": verdict.lost,
    }


def _twice(jobs: int, duplicates: int, rng: random.Random) -> list[int]:
    """Return each number once and some of them once more, the second time next to the first or anywhere later."""
    # A place between two numbers and the number that stands there; ties are broken at random.
    again = [
        (rng.uniform(number, min(jobs, number + rng.choice((1, 50, jobs)))), number)
        for number in _some(jobs, duplicates, rng)
    ]
    firsts = [(float(number), number) for number in range(jobs)]
    return [number for _, number in sorted(firsts + again)]


def _some(jobs: int, duplicates: int, rng: random.Random) -> list[int]:
    return rng.sample(range(jobs), duplicates)


async def _each_answered(load: Load, order: list[int]) -> None:
    """Wait until each publish has a reply, or none has come for a while; the oracle and the caller say what is missing."""
    await load.replied(stall_seconds=_STALL_SECONDS)
    while sum(job.replies for job in load.jobs.values()) < len(order):
        silent = time.monotonic() - load.last_reply_at
        assert silent < _STALL_SECONDS, "some duplicates were never answered"
        await asyncio.sleep(_POLL_SECONDS)


def _errors(stage: Stage) -> list[str]:
    """Return what workers logged as errors: a race at the start shows there."""
    lines = [json.loads(line) for life in stage.workers.lives for line in life.text().splitlines() if line[:1] == "{"]
    return [str(line.get("event")) for line in lines if line.get("level") in ("error", "critical")]


def _last_words(stage: Stage) -> str:
    ended = [life for life in stage.workers.lives if life.is_over]
    return ended[0].text()[-1_000:] if ended else ""


GOAL = Goal(
    name="many workers",
    load=lambda size: (
        f"{size.workers} workers started at once, {size.jobs:,} jobs, {size.duplicates:.0%} of them published twice, "
        f"on {' and on '.join({'sqlite': 'SQLite', 'postgresql': 'PostgreSQL'}[engine] for engine in size.engines)}"
    ),
    passes="one stored result per id, one LM run per id, no race at the start",
    short=Size(jobs=600, workers=8, duplicates=0.1, engines=("sqlite",), is_installed=False),
    long=Size(jobs=20_000, workers=8, duplicates=0.1, engines=("sqlite", "postgresql"), is_installed=True),
    run=run,
)
