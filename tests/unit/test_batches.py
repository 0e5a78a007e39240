"""Which writes share a transaction, and who is told what; with an engine that is played."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from worker.store import StoreUnavailableError
from worker.store.database.batches import Batches, Order, WorkError, Write
from worker.store.database.postgres import choose

NOWHERE: Any = None


class Engine:
    """Runs works without a database, and notes what ran together and apart.

    Attributes:
        gate: No batch ends before it is open.
        together: The orders of each batch.
        apart: How many were run again alone.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.together: list[list[Order | None]] = []
        self.apart = 0

    async def run_together(self, writes: Sequence[Write]) -> None:
        """Run all, or fail with the first that fails."""
        self.together.append([write.order for write in writes])
        self.begun.set()
        await self.gate.wait()
        for write in writes:
            write.attempt(NOWHERE)

    async def run_apart(self, writes: Sequence[Write]) -> None:
        """Run each alone."""
        for write in writes:
            self.apart += 1
            try:
                write.result = write.work(NOWHERE)
            except Exception as error:  # noqa: BLE001 - as the engines do
                write.error = error


@pytest.fixture
def engine() -> Engine:
    return Engine()


def batches(engine: Engine, *, lanes: int = 1, answer_seconds: float = 5.0) -> Batches:
    return Batches("x", engine, choose=choose, lanes=lanes, answer_seconds=answer_seconds)


def returns(value: int) -> Callable[[Connection], int]:
    return lambda _connection: value


def raises(error: Exception) -> Callable[[Connection], int]:
    def work(_connection: Connection) -> int:
        raise error

    return work


def conflict() -> DBAPIError:
    """Make what PostgreSQL says to the victim of a deadlock."""
    cause = Exception("deadlock detected")
    cause.sqlstate = "40P01"  # type: ignore[attr-defined]
    return DBAPIError("", {}, cause)


async def test_writes_of_one_turn_share_a_transaction(engine: Engine) -> None:
    """Each gets its own answer."""
    queue = batches(engine)

    results = await asyncio.gather(*(queue.write(returns(number), order=("", str(number))) for number in range(5)))

    assert results == [0, 1, 2, 3, 4]
    assert len(engine.together) == 1


async def test_a_write_that_locks_more_than_one_row_is_alone(engine: Engine) -> None:
    """Before and after it, the others share theirs."""
    queue = batches(engine)
    orders: list[Order | None] = [("", "a"), None, ("", "b"), None]

    await asyncio.gather(*(queue.write(returns(0), order=order) for order in orders))

    assert engine.together == [[("", "a"), ("", "b")], [None], [None]]


async def test_what_fails_takes_no_neighbour_with_it(engine: Engine) -> None:
    """All are run again, each alone."""
    queue = batches(engine)
    works = [returns(1), raises(LookupError()), returns(3)]

    results = await asyncio.gather(*(queue.write(work, order=("",)) for work in works), return_exceptions=True)

    assert (results[0], results[2], engine.apart) == (1, 3, 3)
    assert isinstance(results[1], LookupError)


async def test_a_write_that_fails_alone_is_not_run_again(engine: Engine) -> None:
    """There is nobody to be kept from harm."""
    with pytest.raises(LookupError):
        await batches(engine).write(raises(LookupError()), order=None)

    assert engine.apart == 0


async def test_a_write_that_had_to_make_way_is_run_again(engine: Engine) -> None:
    """The victim of a deadlock did nothing wrong."""
    errors: list[Exception] = [conflict()]

    def work(_connection: Connection) -> int:
        if errors:
            raise errors.pop()
        return 7

    result = await batches(engine).write(work, order=None)

    assert (result, engine.apart) == (7, 1)


async def test_a_lost_connection_is_told_to_all_at_once(engine: Engine) -> None:
    """One try each would be one time-out each."""
    queue = batches(engine)
    works = [returns(1), raises(ConnectionResetError()), returns(3)]

    results = await asyncio.gather(*(queue.write(work, order=("",)) for work in works), return_exceptions=True)

    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert engine.apart == 0


async def test_an_unanswered_write_is_given_up_in_time_and_never_begun_after(engine: Engine) -> None:
    """Neither the one under way nor those that wait behind it hang."""
    queue = batches(engine, answer_seconds=0.05)
    engine.gate.clear()
    first = asyncio.create_task(queue.write(returns(1), order=("", "first")))
    await engine.begun.wait()
    second = asyncio.create_task(queue.write(returns(2), order=("", "second")))

    results = await asyncio.gather(first, second, return_exceptions=True)
    engine.gate.set()
    await queue.close()

    assert [str(result)[-200:].count("does not answer in time") for result in results] == [1, 1]
    assert engine.together == [[("", "first")]]


async def test_a_lane_that_is_stuck_leaves_the_others_free(engine: Engine) -> None:
    """Batches run beside each other, as many as there are lanes."""
    queue = batches(engine, lanes=2)
    engine.gate.clear()
    stuck = asyncio.create_task(queue.write(returns(1), order=("", "stuck")))
    await engine.begun.wait()
    engine.begun.clear()

    other = asyncio.create_task(queue.write(returns(2), order=("", "other")))
    await engine.begun.wait()
    engine.gate.set()

    results = list(await asyncio.gather(stuck, other))

    assert results == [1, 2]


async def test_close_finishes_what_waits_and_takes_no_more(engine: Engine) -> None:
    """An outcome that is on its way is stored."""
    queue = batches(engine)
    writing = asyncio.create_task(queue.write(returns(1), order=None))
    await engine.begun.wait()

    await queue.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await queue.write(returns(2), order=None)

    assert await writing == 1


async def test_a_failed_work_is_told_from_a_failed_transaction() -> None:
    """The cause is kept: what it is decides whether the others are tried again."""
    write = Write(raises(LookupError("x")), None, asyncio.get_running_loop().create_future())

    with pytest.raises(WorkError) as caught:
        write.attempt(NOWHERE)

    assert isinstance(caught.value.cause, LookupError)
