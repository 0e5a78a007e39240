"""The broker is killed with -9 under load, some times while messages expire on the delay ladder."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.faults.chaos import SETTLED_SECONDS, kill_node, spread
from tests.faults.lm_stub import Trouble
from tests.faults.measured import Goal, Measured, percentile
from tests.faults.oracle import judge
from tests.faults.rooms import settled
from tests.faults.stage import Stage


@dataclass(frozen=True, slots=True)
class Size:
    """How much."""

    jobs: int
    workers: int
    kills: int
    flow_seconds: float


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    async with Stage.open(seed=seed) as stage, stage.load() as load:
        stage.lm.delay_seconds = 0.05
        # What a third of the jobs is told at first puts them on the ladder.
        stage.lm.trouble = Trouble({"429": 0.3}, is_first_only=True)
        async with stage.crew(size.workers) as crew:
            await load.create()
            await asyncio.sleep(SETTLED_SECONDS)
            publishing = asyncio.create_task(load.publish(range(size.jobs)))
            kills = await kill_node(stage, load, at=spread(size.jobs, size.kills))
            await publishing
            await settled(stage, load)
        verdict = await judge(stage, load)
    flow = percentile(kills.flow_seconds, 0.95)
    figures = {
        "jobs": verdict.jobs,
        "kills": kills.kills,
        "with messages on the ladder": kills.on_ladder,
        "lost": verdict.lost,
        "wrong replies": verdict.wrong,
        "left in queues": verdict.queued,
        "replies sent again": verdict.duplicate_replies,
        "extra LM calls": verdict.extra_calls,
        "seconds to flow, p95": flow,
        "seconds": time.monotonic() - began,
    }
    problem = None
    if flow > size.flow_seconds:
        problem = f"jobs flow again after {flow:.1f} s, not {size.flow_seconds:g}"
    elif not kills.on_ladder:
        problem = "no kill came while messages lay on the ladder"
    elif crew.exits:
        problem = f"workers ended while the broker was away: {crew.exits}"
    elif any(crew.stops):
        problem = f"workers ended with {crew.stops} on SIGTERM"
    return Measured(figures, problem)


GOAL = Goal(
    name="broker crash",
    load=lambda size: (
        f"{size.jobs:,} jobs, {size.kills} × kill -9 of the node, every second one while messages lie on the ladder"
    ),
    passes="lost 0; jobs flow again ≤ 5 s after the node is ready (p95)",
    # The short form shares its machine with other tests.
    short=Size(jobs=300, workers=2, kills=1, flow_seconds=20),
    long=Size(jobs=10_000, workers=4, kills=10, flow_seconds=5),
    run=run,
)
