"""The store goes away, stalls and holds a row that nobody can read: nothing runs without a claim, all recovers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.faults.jobs import message_id_of
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured, percentile
from tests.faults.oracle import Expected, Verdict, judge
from tests.faults.rooms import settled
from tests.faults.stage import Stage, StoreKind
from tests.faults.store_faults import StoreFaults, store_faults
from tests.faults.workers import Crew

_ENGINES: tuple[StoreKind, ...] = ("sqlite", "postgresql")
# Far from all others; the job whose row is corrupt before it comes.
_CORRUPT = 10_000_000
_LM_SECONDS = 0.2
# A probe comes every five seconds at the latest, and may then have to wait for the lock.
_BACK_SECONDS = 20.0
# The clocks of store and suite are the same; rows and books round to milliseconds.
_CLOCK_SECONDS = 0.005
# What was claimed before the store went away has begun by then, on a busy machine too.
_BEGUN_SECONDS = 2.0
_CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Size:
    """How much, for each engine.

    Attributes:
        workers: Processes.
        per_second: Jobs published a second, through all faults.
        outages: How many.
        stalls: How many.
        outage_seconds: Shortest and longest; a write waits five seconds for SQLite's lock.
        stall_seconds: Shortest and longest; a call waits ten seconds for PostgreSQL.
        hold_seconds: When deliveries go back to the broker.
    """

    workers: int
    per_second: int
    outages: int
    stalls: int
    outage_seconds: tuple[float, float]
    stall_seconds: tuple[float, float]
    hold_seconds: float


@dataclass(slots=True)
class _Done:
    """What came of the faults on one engine.

    Attributes:
        verdict: The oracle's.
        calls_away: LM calls that began while the store was away; their jobs were claimed before.
        most_away: Most of them in one fault.
        late: Those that began so late that their claim should have failed.
        again: Deliveries beyond the first of each job.
        unclaimed: Jobs for which an LM call began before the first claim in the store, or without one.
        back_seconds: Of each fault, until every worker called the LM again.
    """

    verdict: Verdict
    calls_away: int
    most_away: int
    late: int
    again: int
    unclaimed: list[int]
    back_seconds: list[float]


@dataclass(slots=True)
class _Scene:
    """One engine under faults."""

    stage: Stage
    load: Load
    crew: Crew
    faults: StoreFaults
    away: list[tuple[float, float]] = field(default_factory=list)
    back_seconds: list[float] = field(default_factory=list)
    deliveries: int = 0
    zeros: list[tuple[float, float]] = field(default_factory=list)

    def compare_clocks(self) -> None:
        """Note what the store's clock says at monotonic zero, as seen now."""
        now = time.monotonic()
        self.zeros.append((now, time.time() - now))

    def zero_at(self, moment: float) -> float:
        """Return what the store's clock said at monotonic zero, as it was seen next to a moment."""
        return min(self.zeros, key=lambda seen: abs(seen[0] - moment))[1]

    async def count_deliveries(self) -> None:
        """Ask the workers, which must all live, how many messages they were given."""
        self.deliveries = int(sum([await life.metric("dspex_deliveries_total") for life in self.crew.living]))


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it, on both engines side by side: while a store is away there is little to do."""
    began = time.monotonic()
    endings = await asyncio.gather(*(_named(engine, size, seed) for engine in _ENGINES), return_exceptions=True)
    done: dict[StoreKind, _Done] = {}
    for engine, ending in zip(_ENGINES, endings, strict=True):
        if isinstance(ending, BaseException):
            raise ending
        done[engine] = ending
    return _measured(done, size=size, seconds=time.monotonic() - began)


async def _named(engine: StoreKind, size: Size, seed: int) -> _Done:
    """Let the engine stand in what is told of a promise that it broke."""
    try:
        return await _try(engine, size, seed)
    except AssertionError as error:
        raise AssertionError(f"{engine}: {error}") from error


async def _try(engine: StoreKind, size: Size, seed: int) -> _Done:
    settings = {"store_hold_seconds": str(size.hold_seconds), "concurrency": str(_CONCURRENCY)}
    async with (
        Stage.open(seed=seed, settings=settings, store=engine, has_own_node=False) as stage,
        stage.load() as load,
    ):
        stage.lm.delay_seconds = _LM_SECONDS
        stage.workers.has_metrics = True
        async with stage.crew(size.workers) as crew:
            await load.create()
            scene = _Scene(stage, load, crew, store_faults(stage))
            async with _feeding(load, size.per_second):
                await _break(scene, size, random.Random(f"{seed} {engine}"))
            await settled(stage, load)
            await scene.count_deliveries()
            assert not crew.exits, f"workers ended while the store was away: {crew.exits}"
        return await _judged(scene)


@contextlib.asynccontextmanager
async def _feeding(load: Load, per_second: int) -> AsyncIterator[None]:
    """Publish jobs all the time inside the block, and finish the second in hand."""
    is_over = asyncio.Event()

    async def feed() -> None:
        numbers = itertools.count()
        while not is_over.is_set():
            await load.publish(itertools.islice(numbers, per_second), per_second=per_second)

    feeding = asyncio.create_task(feed())
    try:
        yield
    finally:
        is_over.set()
        await feeding


async def _break(scene: _Scene, size: Size, rng: random.Random) -> None:
    """Do all faults, one after the other, each one when all workers are at work again."""
    await _all_at_work(scene)
    await scene.faults.corrupt(_CORRUPT)
    await scene.load.publish([_CORRUPT])
    kinds = ["outage"] * size.outages + ["stall"] * size.stalls
    numbers = {"outage": itertools.count(), "stall": itertools.count()}
    for kind in rng.sample(kinds, len(kinds)):
        await asyncio.sleep(rng.uniform(0, 0.5))
        number = next(numbers[kind])
        if kind == "outage":
            fault, seconds = scene.faults.outage(number), rng.uniform(*size.outage_seconds)
        else:
            fault, seconds = scene.faults.stall(number), rng.uniform(*size.stall_seconds)
        async with fault:
            began = time.monotonic()
            scene.compare_clocks()
            await asyncio.sleep(seconds)
            scene.away.append((began, time.monotonic()))
        scene.back_seconds.append(await _all_at_work(scene))
        scene.compare_clocks()


async def _all_at_work(scene: _Scene) -> float:
    """Wait until each worker has called the LM after now, and return the seconds that it took."""
    began = time.monotonic()
    first = len(scene.stage.lm.calls)
    missing = {life.key for life in scene.crew.living}
    lm = scene.stage.lm
    try:
        async with asyncio.timeout(2 * _BACK_SECONDS):
            while missing := missing - {call.caller for call in itertools.islice(lm.calls, first, None)}:
                lm.arrived.clear()
                await lm.arrived.wait()
    except TimeoutError:
        raise AssertionError(f"{len(missing)} workers run nothing any more") from None
    return time.monotonic() - began


async def _judged(scene: _Scene) -> _Done:
    stage, load = scene.stage, scene.load
    verdict = await judge(stage, load, expected=Expected(dead_letters=frozenset({_CORRUPT})))
    told = [answer.code for answer in load.jobs[_CORRUPT].answers]
    assert told == ["internal"], f"the job with the corrupt row was answered with {told}"
    claims = await scene.faults.first_claims()
    unclaimed = [
        call.job
        for call in stage.lm.calls
        if call.job is not None
        and claims.get(message_id_of(call.job), float("inf")) / 1_000
        > scene.zero_at(call.began) + call.began + _CLOCK_SECONDS
    ]
    away = [sum(begin <= call.began <= end for call in stage.lm.calls) for begin, end in scene.away]
    late = sum(begin + _BEGUN_SECONDS < call.began <= end for call in stage.lm.calls for begin, end in scene.away)
    again = scene.deliveries - len(load.jobs)
    return _Done(verdict, sum(away), max(away), late, again, unclaimed, scene.back_seconds)


def _measured(done: dict[StoreKind, _Done], *, size: Size, seconds: float) -> Measured:
    verdicts = [one.verdict for one in done.values()]
    back = {engine: percentile(one.back_seconds, 0.95) for engine, one in done.items()}
    figures = {
        "jobs": sum(verdict.jobs for verdict in verdicts),
        "faults": sum(len(one.back_seconds) for one in done.values()),
        "lost": sum(verdict.lost for verdict in verdicts),
        "wrong replies": sum(verdict.wrong for verdict in verdicts),
        "dead-lettered beside the corrupt rows": sum(verdict.dead_lettered for verdict in verdicts) - len(verdicts),
        "LM calls begun while the store was away": sum(one.calls_away for one in done.values()),
        "deliveries beyond the first": sum(one.again for one in done.values()),
        "without a claim": sum(len(one.unclaimed) for one in done.values()),
        "extra LM calls": sum(verdict.extra_calls for verdict in verdicts),
        **{f"seconds until all workers run again, p95, {engine}": value for engine, value in back.items()},
        "seconds": seconds,
    }
    problems = [problem for engine, one in done.items() if (problem := _problem(engine, one, size))]
    return Measured(figures, "; ".join(problems) or None)


def _problem(engine: StoreKind, done: _Done, size: Size) -> str | None:
    """Say which promise an engine broke."""
    in_hand = size.workers * _CONCURRENCY
    if done.unclaimed:
        return f"{engine}: jobs were run without a claim: {done.unclaimed[:5]}"
    if done.late or done.most_away > in_hand:
        return (
            f"{engine}: {done.most_away} LM calls began while the store was away and {in_hand} jobs were in hand, "
            f"{done.late} of them after {_BEGUN_SECONDS:g} s"
        )
    # What is in hand in a fault goes back to the broker once.
    faults = size.outages + size.stalls
    if done.again > faults * in_hand:
        return f"{engine}: {done.again} deliveries again, of {in_hand} jobs in hand in {faults} faults: a hot loop"
    if (back := percentile(done.back_seconds, 0.95)) > _BACK_SECONDS:
        return f"{engine}: not all workers ran again within {_BACK_SECONDS:g} s: {back:.1f}"
    return None


GOAL = Goal(
    name="store",
    load=lambda size: (
        f"{size.outages} outages, {size.stalls} stalls and a corrupt row on SQLite and on PostgreSQL, "
        f"at {size.per_second} jobs/s and {size.workers} workers each"
    ),
    passes="lost 0, nothing runs unprotected, recovers by itself",
    short=Size(
        workers=2,
        per_second=30,
        outages=1,
        stalls=1,
        outage_seconds=(5.5, 6),
        stall_seconds=(1, 2),
        hold_seconds=2,
    ),
    long=Size(
        workers=3,
        per_second=30,
        outages=10,
        stalls=5,
        outage_seconds=(3, 20),
        stall_seconds=(1, 20),
        hold_seconds=8,
    ),
    run=run,
)
