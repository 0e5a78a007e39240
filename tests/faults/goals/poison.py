"""One job kills every worker that runs it: it ends as a dead letter and takes no neighbour with it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass

from tests.faults.ledger import Ledger
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import Expected, judge
from tests.faults.rooms import settled
from tests.faults.stage import Stage

_CRASHES = 3
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """How much."""

    jobs: int
    workers: int


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    # In the middle, so that it always has neighbours.
    killer = random.Random(seed).randrange(size.jobs // 4, size.jobs // 2)
    settings = {"test_poison": str(killer)}
    async with Stage.open(seed=seed, settings=settings, has_own_node=False) as stage, stage.load() as load:
        stage.lm.delay_seconds = 0.2
        ledger = Ledger()
        async with stage.crew(size.workers) as crew:
            watching = asyncio.create_task(_note_crashes(stage, ledger))
            await load.create()
            await load.publish(range(size.jobs))
            await settled(stage, load)
            watching.cancel()
            crashes = list(crew.exits)
        verdict = await judge(stage, load, ledger=ledger, expected=Expected(dead_letters=frozenset({killer})))
    neighbours = verdict.in_flight_at_kills
    figures = {
        "jobs": verdict.jobs,
        "crashes": len(crashes),
        "answered": verdict.codes.get("ok", 0),
        "dead-lettered": verdict.dead_lettered,
        "LM calls in flight at crashes": neighbours,
        "extra LM calls": verdict.extra_calls,
        "lost": verdict.lost,
        "seconds": time.monotonic() - began,
    }
    problem = None
    if verdict.codes != {"ok": size.jobs - 1, "worker_lost": 1}:
        problem = f"replies are {verdict.codes}, not {size.jobs - 1} results and one worker_lost"
    elif crashes != [-signal.SIGKILL] * _CRASHES:
        problem = f"workers ended with {crashes}, not with {_CRASHES} crashes"
    elif not neighbours:
        problem = "no neighbour was in flight at any crash"
    return Measured(figures, problem)


async def _note_crashes(stage: Stage, ledger: Ledger) -> None:
    """Write down what each worker held that died, while its rows still name it."""
    noted: set[int] = set()
    while True:
        for life in stage.workers.lives:
            if life.is_over and life.pid not in noted:
                noted.add(life.pid)
                await ledger.note(stage, life)
        await asyncio.sleep(_POLL_SECONDS)


GOAL = Goal(
    name="poison",
    load=lambda size: f"1 process killer among {size.jobs:,} jobs, {size.workers} workers",
    passes=f"it alone is dead-lettered, after {_CRASHES} crashes; all others answered",
    short=Size(jobs=400, workers=2),
    long=Size(jobs=1_000, workers=4),
    run=run,
)
