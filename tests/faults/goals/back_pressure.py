"""The broker raises memory and disk alarms: what runs is answered after them, and nothing is begun meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.faults.jobs import message_id_of
from tests.faults.load import Load
from tests.faults.measured import Goal, Measured
from tests.faults.oracle import depths, judge
from tests.faults.rooms import until
from tests.faults.rows import read_rows
from tests.faults.stage import Stage
from tests.faults.workers import Crew

# From a stored result to the news that its reply is held back; and how long nothing may begin afterwards.
_NEWS_SECONDS = 1.0
_QUIET_SECONDS = 1.0
_LIMITS = {
    "memory": ("vm_memory_monitor:set_vm_memory_high_watermark", "0.0000001", "0.6"),
    "disk": ("rabbit_disk_monitor:set_disk_free_limit", '"1000000GB"', '"50MB"'),
}
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0
# Runs wait for the alarm to be raised.
_SETTINGS = {"lm_timeout_seconds": "40", "job_timeout_seconds": "50", "drain_seconds": "60"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much; jobs of each alarm: so many are running when it comes, so many are handed out while it stands."""

    memory_alarms: int
    disk_alarms: int
    resume_seconds: float
    running: int = 12
    waiting: int = 12
    workers: int = 2


@dataclass(slots=True)
class _Course:
    """What came of the alarms.

    Attributes:
        begun: LM calls that began while publishes were held back.
        resume_seconds: Of each alarm, from its end until each worker has sent a held reply and begun a waiting job.
    """

    begun: int = 0
    resume_seconds: list[float] = field(default_factory=list)


async def run(size: Size, *, seed: int) -> Measured:
    """Measure it."""
    began = time.monotonic()
    kinds = ["memory"] * size.memory_alarms + ["disk"] * size.disk_alarms
    random.Random(seed).shuffle(kinds)
    course = _Course()
    async with Stage.open(seed=seed, settings=_SETTINGS, has_own_node=False) as stage, stage.load() as load:
        async with stage.crew(size.workers) as crew:
            await load.create()
            for number, kind in enumerate(kinds):
                batch = _Batch.of(size, number)
                await _undergo(stage, load, crew, kind=kind, batch=batch, course=course)
            assert not crew.exits, f"workers ended with {crew.exits} during alarms"
        verdict = await judge(stage, load)
    slowest = max(course.resume_seconds)
    figures = {
        "memory alarms": kinds.count("memory"),
        "disk alarms": kinds.count("disk"),
        "jobs": verdict.jobs,
        "lost": verdict.lost,
        "begun during alarms": course.begun,
        "slowest seconds to resume": slowest,
        "extra LM calls": verdict.extra_calls,
        "seconds": time.monotonic() - began,
    }
    problem = None
    if course.begun:
        problem = f"{course.begun} LM calls began after the first blocked publish"
    elif slowest > size.resume_seconds:
        problem = f"jobs went on {slowest:.1f} s after an alarm, not {size.resume_seconds:g}"
    return Measured(figures, problem)


@dataclass(frozen=True, slots=True)
class _Batch:
    running: range
    waiting: range

    @classmethod
    def of(cls, size: Size, number: int) -> _Batch:
        first = number * (size.running + size.waiting)
        middle = first + size.running
        return cls(range(first, middle), range(middle, middle + size.waiting))


async def _undergo(stage: Stage, load: Load, crew: Crew, *, kind: str, batch: _Batch, course: _Course) -> None:
    """Raise one alarm while jobs run, let others be delivered to workers with room for them, and end the alarm."""
    async with contextlib.AsyncExitStack() as stack:
        away = await stack.enter_async_context(_held_elsewhere(stage, load, batch.waiting))
        stage.lm.hold()
        await load.publish(batch.running)
        await until(lambda: {call.caller for call in stage.lm.in_flight} == {life.key for life in crew.living})
        await until(lambda: len(stage.lm.in_flight) == len(batch.running))
        try:
            await _set_alarm(stage, kind, is_on=True)
            stage.lm.let_go()
            await _stored(stage, batch.running)
            await asyncio.sleep(_NEWS_SECONDS)
            calls = len(stage.lm.calls)
            # Its channel closes: the broker gives what it held to the workers.
            await away.aclose()
            await _taken(stage)
            await asyncio.sleep(_QUIET_SECONDS)
            course.begun += len(stage.lm.calls) - calls
            answered = [number for number in batch.running if load.jobs[number].replies]
            assert not answered, f"jobs {answered} were answered during the alarm: it was none"
        finally:
            ended = await _set_alarm(stage, kind, is_on=False)
    await load.replied([*batch.running, *batch.waiting])
    course.resume_seconds.append(max(0.0, _resumed_at(stage, load, batch) - ended))


async def _set_alarm(stage: Stage, kind: str, *, is_on: bool) -> float:
    """Raise or clear an alarm, and return when the broker did it, as ``time.monotonic()``.

    The tool itself takes a second before and after.
    """
    function, low, normal = _LIMITS[kind]
    call = f"{function}({low if is_on else normal})"
    answer = await stage.ctl("eval", f"At = erlang:system_time(millisecond), {call}, At.")
    return int(answer) / 1_000 - time.time() + time.monotonic()


@contextlib.asynccontextmanager
async def _held_elsewhere(stage: Stage, load: Load, numbers: range) -> AsyncIterator[contextlib.AsyncExitStack]:
    """Publish jobs that another consumer gets, and keeps until its stack is closed: as a worker that dies then."""
    received: set[str | None] = set()

    async def take(message: AbstractIncomingMessage) -> None:
        received.add(message.message_id)

    async with contextlib.AsyncExitStack() as away:
        connection = await away.enter_async_context(await aio_pika.connect(stage.node.url))
        channel = await connection.channel()
        queue = await channel.get_queue(f"{stage.namespace}.execute", ensure=False)
        tag = await queue.consume(take, arguments={"x-priority": 10})
        await load.publish(numbers)
        await until(lambda: len(received) == len(numbers))
        await queue.cancel(tag)
        yield away


async def _stored(stage: Stage, numbers: range) -> None:
    """Wait until the results of these jobs are in the store."""
    wanted = {message_id_of(number) for number in numbers}
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while wanted - {row.job_key for row in await read_rows(stage.store_url, stage.namespace) if row.outcome}:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)


async def _taken(stage: Stage) -> None:
    """Wait until the workers have taken everything from the queue."""
    queue = f"{stage.namespace}.execute"
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (await depths(stage, [queue]))[queue]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_POLL_SECONDS)


def _resumed_at(stage: Stage, load: Load, batch: _Batch) -> float:
    """Return when the slowest worker had sent its first held reply and begun its first waiting job."""
    replies: defaultdict[str, list[float]] = defaultdict(list)
    begins: defaultdict[str, list[float]] = defaultdict(list)
    for call in stage.lm.calls:
        job = load.jobs[call.job] if call.job is not None and call.job in batch.running else None
        if job is not None and job.answered_at is not None:
            replies[call.caller].append(job.answered_at)
        elif call.job in batch.waiting:
            begins[call.caller].append(call.began)
    assert replies, "no held reply came after the alarm"
    assert replies.keys() == begins.keys(), f"waiting jobs were begun by {len(begins)} of {len(replies)} workers"
    return max(min(times) for times in (*replies.values(), *begins.values()))


GOAL = Goal(
    name="back-pressure",
    load=lambda size: f"{size.memory_alarms} memory and {size.disk_alarms} disk alarms, {size.workers} workers",
    passes="lost 0, no job started after the first blocked publish, resume ≤ 3 s",
    # The short form shares its machine with other tests.
    short=Size(memory_alarms=1, disk_alarms=1, resume_seconds=15),
    long=Size(memory_alarms=10, disk_alarms=3, resume_seconds=3),
    run=run,
)
