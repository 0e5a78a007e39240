"""Workers are stopped with SIGTERM under load: each ends in time, and no job is run again for it."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import time
from dataclasses import dataclass, field

from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import depths, judge
from tests.faults.rooms import settled, until
from tests.faults.rows import read_rows
from tests.faults.stage import Stage
from tests.faults.workers import Crew, Life

_GRACE_SECONDS = 10.0
_SETTINGS = {"concurrency": "8", "lm_timeout_seconds": "8", "job_timeout_seconds": "9", "drain_seconds": "10"}
# So many make a job a suspect.
_STOPS_TO_SUSPECT = 3
# Jobs that run beside a suspect.
_OTHERS = 2
# What a second signal may take at most, on a busy machine: it is to end the worker at once, and not to wait for jobs.
_AT_ONCE_SECONDS = 5.0
_BACKLOG = 100
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much."""

    stops: int
    workers: int
    is_installed: bool


@dataclass(slots=True)
class _Stops:
    """What came of the signals.

    Attributes:
        seconds: From each SIGTERM to the end of its worker.
        codes: The exit codes.
        in_flight: LM calls of the stopped workers at the signals.
    """

    seconds: list[float] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    in_flight: int = 0


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    async with (
        Stage.open(seed=seed, settings=_SETTINGS, has_own_node=False, is_installed=size.is_installed) as stage,
        stage.load() as load,
    ):
        stops = await _stop_under_load(stage, load, size, rng=random.Random(seed))
        await _assert_nothing_held(stage, load)
        stage.lm.delay_seconds = 0.02
        async with stage.crew(size.workers):
            await load.replied()
        ledger = await _stop_twice(stage, load)
        async with stage.crew(size.workers):
            await settled(stage, load)
        verdict = await judge(stage, load, ledger=ledger)
    slowest = max(stops.seconds)
    figures = {
        "SIGTERM": len(stops.codes),
        "LM calls in flight at them": stops.in_flight,
        "exit 0": stops.codes.count(0),
        "slowest seconds": slowest,
        "jobs": verdict.jobs,
        "run again": verdict.extra_calls - ledger.in_flight,
        "lost": verdict.lost,
        "seconds": time.monotonic() - began,
    }
    return Measured(figures, _reason(stops, slowest))


def _reason(stops: _Stops, slowest: float) -> str | None:
    if any(stops.codes):
        return f"workers ended with {sorted(stops.codes)} on SIGTERM"
    if slowest > _GRACE_SECONDS:
        return f"a worker took {slowest:.1f} s to end, not {_GRACE_SECONDS:g}"
    return None


async def _stop_under_load(stage: Stage, load: Load, size: Size, *, rng: random.Random) -> _Stops:
    """Stop one worker after the other while the rest goes on, and all of them at last."""
    stops = _Stops()
    async with stage.crew(size.workers) as crew:
        await load.create()
        over = asyncio.Event()
        feeding = asyncio.create_task(_feed(load, over=over))
        try:
            for _ in range(size.stops):
                stage.lm.delay_seconds = rng.uniform(0.05, 0.8)
                await _stop(stage, await _busy(stage, crew, rng), stops)
            # What is left when all are stopped at once must be more than they can begin meanwhile.
            stage.lm.delay_seconds = 0.8
            await crew.full()
            await _busy(stage, crew, rng)
        finally:
            over.set()
            await feeding
    stops.codes += crew.stops
    assert not any(crew.exits), f"workers ended with {crew.exits} while they were stopped one by one"
    return stops


async def _feed(load: Load, *, over: asyncio.Event) -> None:
    """Keep more jobs waiting than the workers can take."""
    numbers = itertools.count()
    while not over.is_set():
        if len(load.jobs) - load.answered < _BACKLOG:
            await load.publish(itertools.islice(numbers, _BACKLOG))
        await asyncio.sleep(_POLL_SECONDS)


async def _busy(stage: Stage, crew: Crew, rng: random.Random) -> Life:
    """Wait until a worker has LM calls in flight, and return one of those that have."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            callers = {call.caller for call in stage.lm.in_flight}
            if busy := [life for life in crew.living if life.key in callers]:
                return rng.choice(busy)
            await asyncio.sleep(_POLL_SECONDS)


async def _stop(stage: Stage, life: Life, stops: _Stops) -> None:
    stops.in_flight += sum(call.caller == life.key for call in stage.lm.in_flight)
    began = time.monotonic()
    stops.codes.append(await life.stop())
    stops.seconds.append(time.monotonic() - began)


async def _assert_nothing_held(stage: Stage, load: Load) -> None:
    """Check that what was begun is answered, and that everything else is back in its queue at once.

    Raises:
        AssertionError: It is not so.
    """
    await load.replied(stage.lm.by_job, stall_seconds=5)
    queue = f"{stage.namespace}.execute"
    waiting = sum(not job.replies for job in load.jobs.values())
    assert all(load.jobs[number].replies for number in stage.lm.by_job), "a job that was begun has no reply"
    assert waiting, "no job was left for anybody: there was no load"
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (await depths(stage, [queue]))[queue] != waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)


async def _stop_twice(stage: Stage, load: Load) -> Ledger:
    """Send a second SIGTERM to three workers in turn that run the same job, and then one to a worker that gets it.

    A second signal ends a worker at once, and not with 0; its job is that of a worker that was stopped and killed. After three
    such stops it may only run alone, so the last worker has it in hand without beginning it: it goes back, what runs is finished, exit 0.
    """
    ledger = Ledger()
    suspect, *others = range(len(load.jobs), len(load.jobs) + 1 + _OTHERS)
    stage.lm.hold()
    await load.publish([suspect])
    for _ in range(_STOPS_TO_SUSPECT - 1):
        await _end_at_once(stage, await _running(stage, 1, room=1), ledger)
    crashing = await _running(stage, 1, room=1)
    # It has no room for them.
    await load.publish(others)
    last = await _running(stage, len(others), room=len(others) + 1)
    await _end_at_once(stage, crashing, ledger)
    await _stop_with_a_suspect(stage, last, suspect=suspect)
    return ledger


async def _running(stage: Stage, jobs: int, *, room: int) -> Life:
    """Start a worker and wait until it runs so many jobs."""
    life = await stage.workers.start(concurrency=str(room))
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while sum(call.caller == life.key for call in stage.lm.in_flight) < jobs:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)
    return life


async def _end_at_once(stage: Stage, life: Life, ledger: Ledger) -> None:
    life.send(signal.SIGTERM)
    await life.logged("worker.draining")
    await until(lambda: _is_noted(stage))
    began = time.monotonic()
    code = await life.stop()
    seconds = time.monotonic() - began
    kill = await ledger.note(stage, life)
    assert code > 0, f"a second SIGTERM ended a worker with {code}"
    assert seconds <= _AT_ONCE_SECONDS, f"a second SIGTERM took {seconds:.1f} s"
    assert kill.jobs, "no job was in flight at a second SIGTERM"


async def _is_noted(stage: Stage) -> bool:
    rows = await read_rows(stage.store_url, stage.namespace, only_running=True)
    return any(row.is_stop_noted for row in rows)


async def _stop_with_a_suspect(stage: Stage, life: Life, *, suspect: int) -> None:
    await life.logged("consuming.paused")
    life.send(signal.SIGTERM)
    await life.logged("worker.draining")
    stage.lm.let_go()
    code = await life.exit_code()
    assert code == 0, f"a worker with a job that was not begun ended with {code} on SIGTERM"
    assert suspect not in stage.lm.by_caller[life.key], f"job {suspect} was begun although the worker was to stop"


GOAL = Goal(
    name="drain",
    load=lambda size: f"{size.stops} × SIGTERM under load, {size.workers} workers; a second SIGTERM",
    passes="exit 0 within the grace, 0 jobs re-run",
    short=Size(stops=4, workers=2, is_installed=False),
    long=Size(stops=200, workers=4, is_installed=True),
    run=run,
)
