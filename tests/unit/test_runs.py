"""What runs can be stopped, and only by who stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from worker.errors import CancelledJobError
from worker.runs import Runs

JOB = ("", "job")


class Bench:
    """Runs one block that waits for ever unless told otherwise."""

    def __init__(self) -> None:
        self.runs = Runs()
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.was_aborted = False

    async def block(self) -> str:
        self.entered.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_aborted = True
            raise
        return "done"

    async def start(self, block: Callable[[], Awaitable[str]] | None = None) -> asyncio.Task[str]:
        async def run() -> str:
            with self.runs.stoppable(JOB):
                return await (block or self.block)()

        self.entered.clear()
        task = asyncio.create_task(run())
        await self.entered.wait()
        return task


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_what_is_stopped_ends_as_cancelled_and_its_work_is_aborted(bench: Bench) -> None:
    """The task itself goes on: it has a reply to send."""
    task = await bench.start()

    assert bench.runs.stop(JOB)
    with pytest.raises(CancelledJobError):
        await task
    assert bench.was_aborted
    assert (task.cancelled(), task.cancelling()) == (False, 0)
    assert bench.runs.jobs == set()


async def test_stopping_twice_is_stopping_once(bench: Bench) -> None:
    """Two marks, or a mark that is found again before the task had its turn."""
    task = await bench.start()
    bench.runs.stop(JOB)
    bench.runs.stop(JOB)

    with pytest.raises(CancelledJobError):
        await task
    assert task.cancelling() == 0


async def test_the_end_of_a_drain_stays_a_cancellation(bench: Bench) -> None:
    """Its job goes back to the queue without a reply."""
    task = await bench.start()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.runs.jobs == set()


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_drain_and_a_stop_at_once_are_a_drain(bench: Bench, is_first: bool) -> None:
    """The next worker finds the mark and answers."""
    task = await bench.start()
    if is_first:
        task.cancel()
    bench.runs.stop(JOB)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_ended_by_itself_keeps_its_result(bench: Bench) -> None:
    """Also where the block swallows the stop because it had its result already."""

    async def stubborn() -> str:
        try:
            return await bench.block()
        except asyncio.CancelledError:
            return "had it"

    task = await bench.start(stubborn)
    bench.runs.stop(JOB)

    assert await task == "had it"
    assert task.cancelling() == 0


async def test_an_error_that_takes_the_stops_place_stands(bench: Bench) -> None:
    """And leaves no cancellation behind."""

    async def failing() -> str:
        try:
            return await bench.block()
        except asyncio.CancelledError:
            raise KeyError from None

    task = await bench.start(failing)
    bench.runs.stop(JOB)

    with pytest.raises(KeyError):
        await task
    assert task.cancelling() == 0


async def test_a_time_out_inside_a_stopped_block_is_no_time_out(bench: Bench) -> None:
    """Both cancel the task; who asked tells them apart."""

    async def limited() -> str:
        async with asyncio.timeout(60):
            return await bench.block()

    task = await bench.start(limited)
    bench.runs.stop(JOB)

    with pytest.raises(CancelledJobError):
        await task


async def test_other_jobs_go_on(bench: Bench) -> None:
    """Nothing is stopped by another's key, nor by another tenant's."""
    task = await bench.start()

    assert not bench.runs.stop(("", "other"))
    assert not bench.runs.stop(("tenant", "job"))
    bench.go_on.set()

    assert await task == "done"


async def test_a_job_that_runs_twice_in_this_process_is_stopped_twice(bench: Bench) -> None:
    """A replay may take over a row whose first run still hangs."""
    tasks = [await bench.start(), await bench.start()]
    bench.runs.stop(JOB)

    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(one) for one in ended] == [CancelledJobError] * 2
