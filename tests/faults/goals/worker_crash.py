"""Workers are killed with -9 under load and come back: nothing is lost, every reply is right."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from tests.faults.chaos import kill_workers, spread, too_few_in_flight
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import judge
from tests.faults.rooms import settled
from tests.faults.stage import Stage


@dataclass(frozen=True, slots=True)
class Size:
    """How much."""

    jobs: int
    workers: int
    kills: int
    is_installed: bool


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    rng = random.Random(seed)
    began = time.monotonic()
    async with Stage.open(seed=seed, has_own_node=False, is_installed=size.is_installed) as stage, stage.load() as load:
        stage.lm.delay_seconds = 0.1
        async with stage.crew(size.workers) as crew:
            await load.create()
            publishing = asyncio.create_task(load.publish(range(size.jobs)))
            ledger = await kill_workers(stage, crew, load, at=spread(size.jobs, size.kills), rng=rng)
            await publishing
            await settled(stage, load)
        verdict = await judge(stage, load, ledger=ledger)
        assert not any(crew.stops), f"a worker ended with {crew.stops} on SIGTERM"
    return Measured(
        {
            "jobs": verdict.jobs,
            "kills": len(ledger.kills),
            "lost": verdict.lost,
            "wrong replies": verdict.wrong,
            "left in queues": verdict.queued,
            "replies sent again": verdict.duplicate_replies,
            "LM calls in flight at kills": verdict.in_flight_at_kills,
            "extra LM calls": verdict.extra_calls,
            "seconds": time.monotonic() - began,
        },
        too_few_in_flight(ledger),
    )


GOAL = Goal(
    name="worker crash",
    load=lambda size: f"{size.jobs:,} jobs, {size.workers} workers, {size.kills} × kill -9, never a job's third",
    passes="lost 0, every reply right, queues empty",
    short=Size(jobs=400, workers=2, kills=5, is_installed=False),
    long=Size(jobs=10_000, workers=4, kills=60, is_installed=True),
    run=run,
)
