"""Jobs take longer than the broker waits for an ack: it closes their channel and delivers them again while they run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.faults.load import Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import judge
from tests.faults.rooms import emptied
from tests.faults.stage import Stage
from tests.faults.workers import Life

# What a RabbitMQ node starts with.
_TIMEOUT_MS = 1_800_000
_TICK_MS = 60_000
_EMPTY_LOOKS = 20
_PATIENCE_SECONDS = 60.0
_SETTINGS = {"concurrency": "64", "lm_timeout_seconds": "20", "job_timeout_seconds": "25"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much.

    Attributes:
        jobs: On one worker, and again on several.
        ack_timeout_seconds: The broker looks every third of it: it comes after 1 to 1⅓ of this time.
        job_seconds: On one worker; the time-out comes once, and not when a job ends.
        longer_seconds: On several workers; the time-out comes again and again, at the end as well.
        workers: How many are several.
    """

    jobs: int
    ack_timeout_seconds: float
    job_seconds: float
    longer_seconds: float
    workers: int


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it: with one worker, which must answer once, and with several, where two may send the same reply.

    A worker sends the reply of a run whose channel was lost at once, if it has no newer delivery of the job in hand; the
    one that comes then is answered too.
    """
    began = time.monotonic()
    async with (
        Stage.open(seed=seed, settings=_SETTINGS, has_own_node=False) as stage,
        _ack_timeout(stage, size.ack_timeout_seconds),
        stage.load() as load,
    ):
        stage.lm.delay_seconds = size.job_seconds
        closed = await _run_on(stage, load, workers=1, numbers=range(size.jobs))
        replies = sum(job.replies for job in load.jobs.values())
        stage.lm.delay_seconds = size.longer_seconds
        numbers = range(size.jobs, 2 * size.jobs)
        closed += await _run_on(stage, load, workers=size.workers, numbers=numbers)
        verdict = await judge(stage, load)
    figures = {
        "jobs": verdict.jobs,
        "channels closed by the broker": closed,
        "LM calls": verdict.paid_calls,
        "extra LM calls": verdict.extra_calls,
        "different replies": verdict.differing,
        "replies sent again by one worker": replies - size.jobs,
        f"replies sent again by {size.workers}": verdict.duplicate_replies - (replies - size.jobs),
        "lost": verdict.lost,
        "seconds": time.monotonic() - began,
    }
    problem = None
    if replies != size.jobs:
        problem = f"one worker sent {replies} replies to {size.jobs} jobs"
    elif closed < 1 + size.workers:
        problem = f"the broker closed only {closed} channels: the ack time-out did not come"
    return Measured(figures, problem)


async def _run_on(stage: Stage, load: Load, *, workers: int, numbers: range) -> int:
    """Run jobs that are too long and return how often the broker closed a worker's channel."""
    async with stage.crew(workers) as crew:
        if not load.jobs:
            await load.create()
        await load.publish(numbers)
        await load.replied(numbers)
        # The deliveries that came while their job ran are settled too, and stay so.
        await emptied(stage, looks=_EMPTY_LOOKS, patience_seconds=_PATIENCE_SECONDS)
        lives = crew.living
        closed = sum(_closed(life) for life in lives)
    assert not crew.exits, f"workers ended with {crew.exits}"
    assert not any(crew.stops), f"workers ended with {crew.stops} on SIGTERM"
    return closed


def _closed(life: Life) -> int:
    """Return how often a worker began to consume again."""
    return life.text().count('"event": "consuming.started"') - 1


@contextlib.asynccontextmanager
async def _ack_timeout(stage: Stage, seconds: float) -> AsyncIterator[None]:
    """Shorten the broker's ack time-out for channels that are opened inside the block."""
    await _set(stage, round(seconds * 1_000), tick_ms=round(seconds * 1_000 / 3))
    try:
        yield
    finally:
        await _set(stage, _TIMEOUT_MS, tick_ms=_TICK_MS)


async def _set(stage: Stage, timeout_ms: int, *, tick_ms: int) -> None:
    values = {"consumer_timeout": timeout_ms, "channel_tick_interval": tick_ms}
    await stage.ctl("eval", ",".join(f"application:set_env(rabbit,{name},{ms})" for name, ms in values.items()) + ".")


GOAL = Goal(
    name="ack time-out",
    load=lambda size: (
        f"{size.jobs} jobs of {size.job_seconds:g} s on one worker, "
        f"{size.jobs} of {size.longer_seconds:g} s on {size.workers}, "
        f"ack time-out {size.ack_timeout_seconds:g} s"
    ),
    passes="one LM run each, one reply each",
    short=Size(jobs=50, ack_timeout_seconds=1.5, job_seconds=2.5, longer_seconds=4, workers=2),
    long=Size(jobs=50, ack_timeout_seconds=3, job_seconds=5, longer_seconds=15, workers=4),
    run=run,
)
