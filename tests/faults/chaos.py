"""Kills that go on while jobs run; goals share them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field

from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.oracle import depths
from tests.faults.stage import Stage
from tests.faults.workers import Crew

_POLL_SECONDS = 0.05
# A quorum queue that was declared less than two seconds before its node is killed comes back dead on RabbitMQ 3.10.
SETTLED_SECONDS = 3.0
_LADDER_SECONDS = 5.0
_FLOW_SECONDS = 30.0


async def kill_workers(stage: Stage, crew: Crew, load: Load, *, at: list[int], rng: random.Random) -> Ledger:
    """Kill a worker with -9 each time so many jobs are answered; the crew starts it again.

    A worker that holds a job which crashed twice is spared, and another one is chosen.

    Args:
        stage: Where.
        crew: Whose workers.
        load: Tells how many jobs are answered.
        at: Answered jobs at each kill, ascending.
        rng: Chooses the worker.
    """
    ledger = Ledger()
    for answered in at:
        await load.reach(answered)
        while not (crew.living and await ledger.kill(stage, rng.choice(crew.living))):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)
    return ledger


def too_few_in_flight(ledger: Ledger) -> str | None:
    """Say that the kills met too few LM calls to prove anything: on average less than one; else None."""
    if ledger.in_flight >= len(ledger.kills):
        return None
    return f"only {ledger.in_flight} LM calls were in flight at {len(ledger.kills)} kills"


@dataclass(slots=True)
class NodeKills:
    """What came of killing the broker.

    Attributes:
        kills: How often.
        on_ladder: Kills while messages lay on the ladder.
        flow_seconds: Of each kill, from the node being ready to the next reply to a job that was begun after that.
    """

    kills: int = 0
    on_ladder: int = 0
    flow_seconds: list[float] = field(default_factory=list)


async def kill_node(stage: Stage, load: Load, *, at: list[int]) -> NodeKills:
    """Kill the broker with -9 each time so many jobs are answered, and start it again.

    At every second kill, wait until messages lie on the delay ladder, so that they expire while the node is away.
    """
    done = NodeKills()
    for answered in at:
        await load.reach(answered)
        if done.kills % 2 == 0:
            await _laden(stage)
        done.on_ladder += await _ladder(stage) > 0
        await stage.kill_node()
        done.kills += 1
        await stage.start_node()
        done.flow_seconds.append(await _seconds_to_flow(stage, load))
    return done


async def _seconds_to_flow(stage: Stage, load: Load) -> float:
    """Return how long it takes from now until a job is answered whose LM call begins after now.

    What was done and not yet answered does not count: it needs no delivery.
    """
    began, first = time.monotonic(), len(stage.lm.calls)
    async with asyncio.timeout(_FLOW_SECONDS):
        while not (answered := _answered_since(stage, load, first)):
            await load.reach(load.answered + 1)
    return min(answered) - began


def _answered_since(stage: Stage, load: Load, first: int) -> list[float]:
    """Return when the jobs were answered that called the LM from this call on."""
    calls = [(call.began, load.jobs[call.job].answered_at) for call in stage.lm.calls[first:] if call.job is not None]
    return [answered for began, answered in calls if answered is not None and answered > began]


async def _laden(stage: Stage) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LADDER_SECONDS):
            while not await _ladder(stage):  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(_POLL_SECONDS)


async def _ladder(stage: Stage) -> int:
    steps = [queue for queue in stage.queues if ".delay." in queue]
    return sum((await depths(stage, steps)).values())


def spread(jobs: int, times: int, *, until: float = 0.9) -> list[int]:
    """Return so many numbers of answered jobs, evenly over the first part of the load."""
    return [round(jobs * until * (number + 1) / (times + 1)) for number in range(times)]
