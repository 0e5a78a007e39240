"""The LM limits, fails, hangs and babbles, and is out twice: jobs wait, nearly all succeed, and it is hardly asked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from tests.faults.lm_stub import Trouble
from tests.faults.load import Job, Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import Expected, Verdict, judge
from tests.faults.proxy import Proxy
from tests.faults.rooms import settled
from tests.faults.stage import Stage
from tests.faults.workers import Crew, Life

_TROUBLE = Trouble({"429": 0.1, "429-retry-after": 0.1, "500": 0.1, "hang": 0.05, "garbage": 0.05})
_CONCURRENCY = 16
_SUCCEEDING = 0.99
# Of a worker in an outage: calls begin until the fifth has failed, and then come the probes.
_CALLS = _CONCURRENCY + 12
# A circuit may be between two probes, which are 30 seconds apart at most, and its jobs on a step of the ladder.
_BACK_SECONDS = 45.0
_BACKLOG = 4 * _CONCURRENCY
_MAX_ATTEMPTS = 7


@dataclass(frozen=True, slots=True)
class Size:
    """How much: the first outage is one of server errors, then of refused connections; the second one of 401."""

    jobs: int
    workers: int
    outage_seconds: float
    lm_timeout_seconds: int


@dataclass(slots=True)
class _Outages:
    """What the outages came to.

    Attributes:
        spans: Begin and end of each one.
        calls: LM calls in all of them.
        worst: LM calls in the one that had most.
        closed: Workers whose circuit was not open at the end of one.
        back_seconds: Of each one, from its end to the next success.
    """

    spans: list[tuple[float, float]] = field(default_factory=list)
    calls: int = 0
    worst: int = 0
    closed: int = 0
    back_seconds: list[float] = field(default_factory=list)


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    settings = {
        "lm_timeout_seconds": str(size.lm_timeout_seconds),
        "concurrency": str(_CONCURRENCY),
        "max_attempts": str(_MAX_ATTEMPTS),
        "delays_seconds": "0.3,0.6,1.2",
    }
    async with (
        Stage.open(seed=seed, has_own_node=False, settings=settings) as stage,
        Proxy(stage.lm.port) as proxy,
        stage.load() as load,
    ):
        stage.workers.change(lm_api_base=f"http://127.0.0.1:{proxy.port}/v1")
        stage.lm.delay_seconds = 0.05
        async with stage.crew(size.workers) as crew:
            await load.create()
            stage.lm.trouble = _TROUBLE
            publishing = asyncio.create_task(_feed(load, size.jobs))
            outages = await _break(stage, crew, load, proxy=proxy, size=size)
            await publishing
            await settled(stage, load)
        failed = frozenset(job.number for job in load.jobs.values() if job.answers and job.answers[0].code != "ok")
        # Garbage and hung calls are billed, and asked again: what is paid twice here, is paid by contract.
        verdict = await judge(stage, load, expected=Expected(dead_letters=failed, is_paid_once=False))
        by_outage = [number for number in failed if _is_by_outage(stage, load.jobs[number], outages.spans)]
    return Measured(
        _figures(verdict, outages) | {"dead-lettered by it": len(by_outage), "seconds": time.monotonic() - began},
        _problem(size, verdict, outages, by_outage),
    )


async def _feed(load: Load, jobs: int) -> None:
    """Publish, never many more than are answered, so that all of the run has jobs."""
    for first in range(0, jobs, _CONCURRENCY):
        while len(load.jobs) - load.answered > _BACKLOG:  # noqa: ASYNC110 - the load tells only of all answers
            await asyncio.sleep(0.05)
        await load.publish(range(first, min(first + _CONCURRENCY, jobs)))


async def _break(stage: Stage, crew: Crew, load: Load, *, proxy: Proxy, size: Size) -> _Outages:
    """Let the LM be out after a third of the jobs, and again after two thirds."""
    outages = _Outages()

    async def fail_then_refuse() -> None:
        stage.lm.trouble = Trouble({"500": 1.0})
        await asyncio.sleep(size.outage_seconds / 2)
        await proxy.refuse()
        proxy.reset()
        await asyncio.sleep(size.outage_seconds / 2)
        await proxy.accept()

    async def refuse_the_key() -> None:
        stage.lm.trouble = Trouble({"401": 1.0})
        await asyncio.sleep(size.outage_seconds)

    for share, outage in ((1 / 3, fail_then_refuse), (2 / 3, refuse_the_key)):
        await load.reach(int(share * size.jobs))
        before, began = len(stage.lm.calls), time.monotonic()
        await outage()
        outages.spans.append((began, time.monotonic()))
        calls = len(stage.lm.calls) - before
        outages.calls += calls
        outages.worst = max(outages.worst, calls)
        outages.closed += sum(not _is_open(life) for life in crew.living)
        stage.lm.trouble = _TROUBLE
        outages.back_seconds.append(await _seconds_to_flow(load))
    return outages


def _is_open(life: Life) -> bool:
    """Tell whether a worker takes the LM for down."""
    log = life.text()
    return log.count("circuit.opened") > log.count("circuit.closed")


async def _seconds_to_flow(load: Load) -> float:
    """Return how long it takes from now until a job is answered."""
    began = time.monotonic()
    before = load.answered
    try:
        async with asyncio.timeout(_BACK_SECONDS):
            await load.reach(before + 1)
    except TimeoutError:
        raise AssertionError(f"no job was answered within {_BACK_SECONDS:g} s after an outage") from None
    return max(0.0, load.last_reply_at - began)


def _is_by_outage(stage: Stage, job: Job, spans: list[tuple[float, float]]) -> bool:
    """Tell whether an outage may have ended a job: it lived through one, and had not used up its attempts without.

    The calls that find out an outage are attempts like any other; of one job that is one in each outage. An answer that
    says nothing (``output_invalid``) is garbage, which the LM babbles between the outages.
    """
    assert job.confirmed_at is not None
    assert job.answered_at is not None
    is_through = any(began <= job.answered_at and job.confirmed_at <= ended for began, ended in spans)
    begins = [call.began for call in stage.lm.calls if call.job == job.number]
    within = [sum(began <= begin <= ended for begin in begins) for began, ended in spans]
    own = len(begins) - sum(within)
    attempts = own + sum(map(bool, within))
    return is_through and attempts < _MAX_ATTEMPTS and job.answers[0].code != "output_invalid"


def _figures(verdict: Verdict, outages: _Outages) -> dict[str, int | float | str]:
    return {
        "jobs": verdict.jobs,
        "succeeded": verdict.codes.get("ok", 0),
        "lost": verdict.lost,
        "wrong replies": verdict.wrong,
        "LM calls in the outages": outages.calls,
        "most in one": outages.worst,
        "seconds until it flows again, most": max(outages.back_seconds),
        "dead-lettered": verdict.dead_lettered,
    }


def _problem(size: Size, verdict: Verdict, outages: _Outages, by_outage: list[int]) -> str | None:
    succeeded = verdict.codes.get("ok", 0)
    if by_outage:
        return f"an outage has dead-lettered {len(by_outage)} jobs: {by_outage[:5]}"
    if succeeded < _SUCCEEDING * size.jobs:
        return f"{succeeded} of {size.jobs} jobs succeeded: {verdict.codes}"
    if outages.worst > _CALLS * size.workers:
        return f"the LM was called {outages.worst} times in an outage, not at most {_CALLS * size.workers}"
    if outages.closed:
        return f"{outages.closed} times a worker did not know at the end of an outage that there was one"
    return None


GOAL = Goal(
    name="LM trouble",
    load=lambda size: (
        f"{size.jobs:,} jobs; 20 % 429, half of them with Retry-After, 10 % 500, 5 % hang, 5 % garbage; outages of "
        f"{size.outage_seconds:g} s: server errors, then refused connections; then 401"
    ),
    passes="≥ 99 % succeed, 0 dead-lettered by an outage, which sees few LM calls",
    short=Size(jobs=200, workers=2, outage_seconds=2, lm_timeout_seconds=1),
    long=Size(jobs=2_000, workers=4, outage_seconds=60, lm_timeout_seconds=3),
    run=run,
)
