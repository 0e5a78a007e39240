"""Workers run for an hour at a steady rate over more signatures than their caches hold: memory stays where it is.

The books of load and LM are checked and closed all the time, so that the suite itself stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults.jobs import text_of
from tests.faults.lm_stub import LMStub
from tests.faults.load import Job, Load
from tests.faults.measured import Goal, Measured, percentile
from tests.faults.oracle import judge
from tests.faults.resources import Sample, Slope, drift
from tests.faults.stage import Stage
from tests.faults.workers import Life

_MB_PER_HOUR = 1.0
# A pool that opened one connection more is no leak; one a minute is.
_DESCRIPTORS = 2
# A job's books are closed so long after its reply: a second one shows until then, and whoever waits for it has seen it.
_KEPT_SECONDS = 90.0
_CLOSE_SECONDS = 1.0
# A shorter run cannot tell a slope from noise.
_TELLING_MINUTES = 5.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much.

    Attributes:
        minutes: After the warm-up.
        warm_up_minutes: At the same rate, after each signature came once.
        per_second: Jobs a second.
        signatures: Different definitions, one in each job.
        workers: Processes.
        sample_seconds: Between two looks at memory and descriptors.
        is_installed: Whether workers are processes of their own from the start; a fork's memory grows as it parts from
            its parent's.
    """

    minutes: float
    warm_up_minutes: float
    per_second: int
    signatures: int
    workers: int
    sample_seconds: float
    is_installed: bool

    def lasting(self, minutes: float) -> Size:
        """Return the same for another time, with a warm-up that goes with it."""
        return replace(self, minutes=minutes, warm_up_minutes=min(self.warm_up_minutes, minutes / 2))


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    async with (
        Stage.open(seed=seed, has_own_node=False, is_installed=size.is_installed) as stage,
        stage.load() as load,
        _closing_books(load, stage.lm) as books,
    ):
        numbers = itertools.count()
        async with stage.crew(size.workers) as crew:
            await _warm_up(load, numbers, size, seed)
            books.close(load, stage.lm, older_than=0)
            books.waits.clear()
            began = time.monotonic()
            async with _sampling(crew.living, size.sample_seconds) as samples:
                await _publish(load, numbers, size, seconds=size.minutes * 60, pick=_picker(size, seed))
                await load.replied()
            seconds = time.monotonic() - began
            assert not crew.exits, f"workers ended: {crew.exits}"
        books.close(load, stage.lm, older_than=0)
        await judge(stage, load)
    return _measured(size, books, samples, seconds=seconds)


def definition(index: int) -> dict[str, Any]:
    """Return the definition of one of the signatures: no two have the same fields, types or instructions."""
    options = [f"choice {index} {letter}" for letter in "abcdefgh"[: 2 + index % 6]]
    return {
        "name": f"Soak{index}",
        "description": f"Label the text as rule {index} says. " + "Be exact. " * (index % 20),
        "inputs": [
            {"name": "text", "type": "string", "description": f"what rule {index} is about"},
            {"name": f"context_{index}", "type": {"type": "array", "items": {"enum": options}}, "required": False},
        ],
        "outputs": [{"name": "label", "type": "string", "description": f"the label, by rule {index}"}],
    }


def _body(number: int, index: int) -> dict[str, Any]:
    return {"id": number, "args": {"signature": definition(index), "inputs": {"text": text_of(number)}}}


def _picker(size: Size, seed: int) -> Callable[[int], int]:
    """Return number → signature, any of them alike."""
    return lambda number: random.Random(f"{seed} {number}").randrange(size.signatures)


async def _warm_up(load: Load, numbers: Iterator[int], size: Size, seed: int) -> None:
    """Send each signature once, as fast as it goes, and then the load to come."""
    first = itertools.islice(numbers, size.signatures)
    await load.publish(first, window=64, make_body=lambda number: _body(number, number))
    await load.replied()
    await _publish(load, numbers, size, seconds=size.warm_up_minutes * 60, pick=_picker(size, seed))
    await load.replied()


async def _publish(
    load: Load, numbers: Iterator[int], size: Size, *, seconds: float, pick: Callable[[int], int]
) -> None:
    jobs = itertools.islice(numbers, round(seconds * size.per_second))
    await load.publish(jobs, per_second=size.per_second, make_body=lambda number: _body(number, pick(number)))


@dataclass(slots=True)
class _Books:
    """What is left of jobs whose books are closed.

    Attributes:
        jobs: How many.
        waits: Seconds from confirm to reply, of one job in a hundred.
    """

    jobs: int = 0
    waits: list[float] = field(default_factory=list)

    def close(self, load: Load, lm: LMStub, *, older_than: float) -> None:
        """Check the jobs that were answered so long ago and forget them."""
        before = time.monotonic() - older_than
        for number, job in list(load.jobs.items()):
            if job.answered_at is not None and job.confirmed_at is not None and job.answered_at <= before:
                self._close(job, lm)
                del load.jobs[number]
        lm.calls.clear()

    def _close(self, job: Job, lm: LMStub) -> None:
        paid = lm.paid.pop(job.number)
        assert len(job.answers) == 1, f"job {job.number} was answered in {len(job.answers)} ways"
        assert job.answers[0].is_right(job.number), f"job {job.number}: {job.answers[0].body[:300]!r}"
        assert paid == 1, f"the LM was called {paid} times for job {job.number}"
        del lm.by_job[job.number]
        for jobs in lm.by_caller.values():
            jobs.discard(job.number)
        self.jobs += 1
        if not self.jobs % 100:
            assert job.answered_at is not None
            assert job.confirmed_at is not None
            self.waits.append(job.answered_at - job.confirmed_at)


@contextlib.asynccontextmanager
async def _closing_books(load: Load, lm: LMStub) -> AsyncIterator[_Books]:
    """Close books all the time inside the block; what was wrong is raised at its end."""
    books = _Books()

    async def close() -> None:
        while True:
            await asyncio.sleep(_CLOSE_SECONDS)
            books.close(load, lm, older_than=_KEPT_SECONDS)

    closing = asyncio.create_task(close())
    try:
        yield books
    finally:
        closing.cancel()
        await asyncio.wait({closing})
        if not closing.cancelled():
            closing.result()


@contextlib.asynccontextmanager
async def _sampling(lives: list[Life], seconds: float) -> AsyncIterator[list[list[Sample]]]:
    """Look at the workers all the time inside the block; yield the samples of each of them."""
    samples: list[list[Sample]] = [[Sample.of(life.pid)] for life in lives]

    async def look() -> None:
        while True:
            await asyncio.sleep(seconds)
            for life, taken in zip(lives, samples, strict=True):
                taken.append(Sample.of(life.pid))

    looking = asyncio.create_task(look())
    try:
        yield samples
    finally:
        looking.cancel()
        await asyncio.wait({looking})


def _measured(size: Size, books: _Books, samples: list[list[Sample]], *, seconds: float) -> Measured:
    slopes = [Slope.of(taken) for taken in samples]
    worst = max(slopes, key=lambda slope: slope.mb_per_hour)
    descriptors = max(drift([sample.descriptors for sample in taken]) for taken in samples)
    is_telling = size.minutes >= _TELLING_MINUTES
    line = {"slope in MB/h": worst.mb_per_hour, "±": worst.error} if is_telling else {}
    figures = {
        "jobs": books.jobs,
        "jobs/s": size.minutes * 60 * size.per_second / seconds,
        "seconds to a reply, p95": percentile(books.waits, 0.95),
        "RSS in MB after the warm-up": max(taken[0].rss_mb for taken in samples),
        "at the end": max(taken[-1].rss_mb for taken in samples),
        **line,
        "descriptors": max(taken[-1].descriptors for taken in samples),
        "drift of descriptors": descriptors,
        "threads": max(taken[-1].threads for taken in samples),
        "seconds": seconds,
    }
    problem = None
    if descriptors > _DESCRIPTORS:
        problem = f"descriptors grew by {descriptors:g}"
    elif is_telling and worst.mb_per_hour >= _MB_PER_HOUR:
        problem = f"memory grows by {worst.mb_per_hour:.1f} MB an hour"
    return Measured(figures, problem)


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


GOAL = Goal(
    name="soak",
    load=lambda size: (
        f"{size.minutes:g} min at {size.per_second} jobs/s over {size.signatures:,} signatures, {_workers(size.workers)}, "
        f"after {size.warm_up_minutes:g} min of warm-up"
    ),
    passes="RSS slope < 1 MB/h after warm-up, descriptors flat",
    short=Size(
        minutes=0.08,
        warm_up_minutes=0,
        per_second=50,
        signatures=50,
        workers=1,
        sample_seconds=0.5,
        is_installed=False,
    ),
    long=Size(
        minutes=60,
        warm_up_minutes=10,
        per_second=50,
        signatures=5_000,
        workers=1,
        sample_seconds=10,
        is_installed=True,
    ),
    run=run,
)
