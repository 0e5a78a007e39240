"""Kills that go on while jobs run; goals share them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field

from tests.faults.ledger import Ledger, fragile_workers
from tests.faults.load import Load
from tests.faults.oracle import depths
from tests.faults.stage import Stage
from tests.faults.workers import Crew, Life

_POLL_SECONDS = 0.05
# A quorum queue that was declared less than two seconds before its node is killed comes back dead on RabbitMQ 3.10.
SETTLED_SECONDS = 3.0
_LADDER_SECONDS = 5.0
_FLOW_SECONDS = 30.0


async def kill_workers(stage: Stage, crew: Crew, load: Load, *, at: list[int], rng: random.Random) -> Ledger:
    """Kill a worker with -9 each time so many jobs are answered; the crew starts it again.

    A worker that holds a job which crashed twice is spared: a third crash makes it ``worker_lost``, by contract.

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
        life = await _victim(stage, crew, rng)
        await ledger.kill(stage, life)
    return ledger


async def _victim(stage: Stage, crew: Crew, rng: random.Random) -> Life:
    while True:
        lives = crew.living
        fragile = await fragile_workers(stage, lives)
        candidates = [life for life in lives if life.pid not in fragile]
        if candidates:
            return rng.choice(candidates)
        await asyncio.sleep(_POLL_SECONDS)


@dataclass(slots=True)
class NodeKills:
    """What came of killing the broker.

    Attributes:
        kills: How often.
        on_ladder: Kills while messages lay on the ladder.
        flow_seconds: Of each kill, from the node being ready to the next reply.
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
        done.flow_seconds.append(await _seconds_to_flow(load))
    return done


async def _seconds_to_flow(load: Load) -> float:
    """Return how long it takes from now until a reply comes."""
    began = time.monotonic()
    before = load.answered
    async with asyncio.timeout(_FLOW_SECONDS):
        await load.reach(before + 1)
    return max(0.0, load.last_reply_at - began)


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
