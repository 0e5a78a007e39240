"""The network resets, swallows and delays what workers say to the broker and to the LM; every worker comes back."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from tests.faults.lm_stub import Call
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured, percentile
from tests.faults.oracle import Expected, Verdict, judge
from tests.faults.proxy import Proxy
from tests.faults.rooms import settled
from tests.faults.stage import Stage
from tests.faults.workers import Crew

_LATENCY_SECONDS = 0.3
_HEARTBEAT_SECONDS = 2
_STUCK_SECONDS = 30.0
_LM_TIMEOUT_SECONDS = 3
# How long an answer may take from the LM through the proxy into a busy worker.
_DELIVERY_SECONDS = 0.2
_BACKLOG = 60
_JOBS_PER_SECOND = 60.0
_BATCH = 10
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Size:
    """How much.

    Until a black hole is found, so many seconds may pass beyond two heartbeats.
    """

    workers: int
    slack_seconds: float
    resets: int
    holes: int
    lm_resets: int
    lm_holes: int
    latency_seconds: float
    slow_resets: int


@dataclass(slots=True)
class _Trial:
    """What is broken and what came of it.

    Attributes:
        broker: Between workers and broker.
        lm: Between workers and LM.
        at_risk: LM calls that the faults before the LM may have cut off.
        found_seconds: Of each black hole before the broker, until every connection was given up.
        back_seconds: Of each fault, until every worker calls the LM again and jobs are answered.
    """

    stage: Stage
    crew: Crew
    load: Load
    broker: Proxy
    lm: Proxy
    at_risk: int = 0
    found_seconds: list[float] = field(default_factory=list)
    back_seconds: list[float] = field(default_factory=list)


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    rng = random.Random(seed)
    began = time.monotonic()
    numbers = itertools.count()
    settings = {"lm_timeout_seconds": str(_LM_TIMEOUT_SECONDS), "concurrency": "8"}
    async with (
        Stage.open(seed=seed, has_own_node=False, has_proxy=True, settings=settings) as stage,
        Proxy(stage.lm.port) as lm,
        stage.load() as load,
    ):
        assert stage.proxy is not None
        stage.lm.delay_seconds = 0.1
        url = URL(stage.proxy.url(stage.node.url)).update_query(heartbeat=str(_HEARTBEAT_SECONDS))
        stage.workers.change(amqp_url=str(url), lm_api_base=f"http://127.0.0.1:{lm.port}/v1")
        async with stage.crew(size.workers) as crew:
            await load.create()
            trial = _Trial(stage, crew, load, stage.proxy, lm)
            async with _fed(load, numbers):
                await _break_broker(trial, size, rng)
                await _delay(trial, size)
            await load.replied()
            # From here on calls are lost on their way, and what is lost is asked again.
            safe = len(load.jobs)
            async with _fed(load, numbers):
                await _break_lm(trial, size, rng)
            await settled(stage, load)
        verdict = await judge(stage, load, expected=Expected(is_paid_once=False))
        extra = _Extra.of(stage, load, safe)
    figures = _figures(size, verdict, trial) | {
        "extra LM calls by the broker's network": extra.by_broker,
        "by the LM's": extra.by_lm,
        "LM calls that its faults may have cut off": trial.at_risk,
        "seconds": time.monotonic() - began,
    }
    return Measured(figures, _problem(trial, extra, size))


@dataclass(frozen=True, slots=True)
class _Extra:
    """LM calls beyond the first of each job, by what was broken meanwhile."""

    by_broker: int
    by_lm: int

    @classmethod
    def of(cls, stage: Stage, load: Load, safe: int) -> _Extra:
        """Count those of the jobs before and after this one; none were made for those that never called."""
        paid = stage.lm.paid
        extra = [max(0, paid[number] - 1) for number in range(len(load.jobs))]
        return cls(sum(extra[:safe]), sum(extra[safe:]))


@asynccontextmanager
async def _fed(load: Load, numbers: Iterable[int]) -> AsyncIterator[None]:
    """Publish inside the block at a steady rate, never many more than are answered."""
    is_over = asyncio.Event()

    async def feed() -> None:
        while not is_over.is_set():
            if len(load.jobs) - load.answered < _BACKLOG:
                await load.publish(itertools.islice(numbers, _BATCH))
            await asyncio.sleep(_BATCH / _JOBS_PER_SECOND)

    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        is_over.set()
        await feeding


async def _break_broker(trial: _Trial, size: Size, rng: random.Random) -> None:
    faults = ["reset"] * size.resets + ["hole"] * size.holes
    rng.shuffle(faults)
    for fault in faults:
        await asyncio.sleep(rng.uniform(0, 0.3))
        if fault == "reset":
            trial.broker.reset()
        else:
            await _be_a_hole(trial)
        await _come_back(trial)


async def _be_a_hole(trial: _Trial) -> None:
    """Swallow everything until each connection that was open has been given up."""
    before, began = trial.broker.connections, time.monotonic()
    trial.broker.swallow()
    try:
        async with asyncio.timeout(_STUCK_SECONDS):
            while trial.broker.kept:  # noqa: ASYNC110 - a proxy tells nobody
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(
            f"{trial.broker.kept} of {before} connections were kept in a black hole for {_STUCK_SECONDS:g} s"
        ) from None
    finally:
        trial.broker.flow()
    trial.found_seconds.append(time.monotonic() - began)


async def _delay(trial: _Trial, size: Size) -> None:
    """Be slow on both ways, and now and then cut connections that must be made anew through that."""
    trial.broker.latency_seconds = trial.lm.latency_seconds = _LATENCY_SECONDS
    try:
        for _ in range(size.slow_resets):
            await asyncio.sleep(size.latency_seconds / (size.slow_resets + 1))
            trial.broker.reset()
            await _come_back(trial)
        await asyncio.sleep(size.latency_seconds / (size.slow_resets + 1))
        await _come_back(trial)
    finally:
        trial.broker.latency_seconds = trial.lm.latency_seconds = 0.0


async def _break_lm(trial: _Trial, size: Size, rng: random.Random) -> None:
    faults = ["reset"] * size.lm_resets + ["hole"] * size.lm_holes
    rng.shuffle(faults)
    for fault in faults:
        await asyncio.sleep(rng.uniform(0, 0.3))
        first = len(trial.stage.lm.calls)
        trial.at_risk += len(_on_their_way(trial.stage))
        if fault == "reset":
            trial.lm.reset()
        else:
            trial.lm.swallow()
            await asyncio.sleep(_LM_TIMEOUT_SECONDS + rng.uniform(0, 1))
            trial.lm.flow()
        await _come_back(trial)
        # Asked before or in the hole, and given up by the worker before it came out of it.
        trial.at_risk += sum(call.is_dropped for call in trial.stage.lm.calls[first:])


def _on_their_way(stage: Stage) -> list[Call]:
    """Return the LM calls whose answer may not have reached its worker: not given yet, or only just now."""
    since = time.monotonic() - _DELIVERY_SECONDS
    given = [call for call in stage.lm.calls if call.ended is not None and call.ended > since]
    return [call for call in [*stage.lm.in_flight, *given] if call.job is not None]


async def _come_back(trial: _Trial) -> None:
    """Wait until every worker has called the LM again, and jobs are answered.

    Raises:
        AssertionError: A worker is stuck.
    """
    began = time.monotonic()
    first, answered = len(trial.stage.lm.calls), trial.load.answered
    silent = {life.key for life in trial.crew.living}
    assert len(silent) == trial.crew.size, f"workers have ended: {trial.crew.exits}"
    try:
        async with asyncio.timeout(_STUCK_SECONDS):
            while silent:
                await asyncio.sleep(_POLL_SECONDS)
                silent -= {call.caller for call in trial.stage.lm.calls[first:] if call.job is not None}
            await trial.load.reach(answered + 1)
    except TimeoutError:
        raise AssertionError(
            f"{len(silent)} of {trial.crew.size} workers are stuck for {_STUCK_SECONDS:g} s; "
            f"answered {trial.load.answered - answered} jobs since"
        ) from None
    trial.back_seconds.append(time.monotonic() - began)


def _figures(size: Size, verdict: Verdict, trial: _Trial) -> dict[str, int | float | str]:
    return {
        "jobs": verdict.jobs,
        "resets": size.resets + size.slow_resets,
        "black holes": size.holes,
        "before the LM": size.lm_resets + size.lm_holes,
        "lost": verdict.lost,
        "wrong replies": verdict.wrong,
        "left in queues": verdict.queued,
        "replies sent again": verdict.duplicate_replies,
        "seconds until a hole is found, most": max(trial.found_seconds, default=0.0),
        "seconds until every worker works again, p95": percentile(trial.back_seconds, 0.95),
    }


def _problem(trial: _Trial, extra: _Extra, size: Size) -> str | None:
    limit = 2 * _HEARTBEAT_SECONDS + size.slack_seconds
    if (found := max(trial.found_seconds, default=0.0)) > limit:
        return f"a black hole was found after {found:.1f} s, with heartbeats of {_HEARTBEAT_SECONDS} s"
    if extra.by_broker:
        return f"{extra.by_broker} LM calls were made again although only the broker was out of reach"
    if extra.by_lm > trial.at_risk:
        return f"{extra.by_lm} LM calls were made again, of {trial.at_risk} that a fault may have cut off"
    if trial.crew.exits or any(trial.crew.stops):
        return f"workers ended by themselves with {trial.crew.exits}, or with {trial.crew.stops} on SIGTERM"
    return None


GOAL = Goal(
    name="network",
    load=lambda size: (
        f"{size.resets + size.slow_resets} resets and {size.holes} black holes before the broker, "
        f"{size.lm_resets} and {size.lm_holes} before the LM, "
        f"{size.latency_seconds:g} s of 300 ms latency each way, to the broker and to the LM"
    ),
    passes="lost 0, no stuck worker; a black hole is found within two heartbeats",
    # The short form shares its machine with other tests.
    short=Size(
        workers=2, slack_seconds=4, resets=4, holes=1, lm_resets=1, lm_holes=0, latency_seconds=1, slow_resets=0
    ),
    long=Size(
        workers=3, slack_seconds=1, resets=95, holes=20, lm_resets=20, lm_holes=4, latency_seconds=300, slow_resets=5
    ),
    run=run,
)
