"""Writes that share a transaction: a commit costs more than most of what is written in it.

Writes that come while all lanes are busy, or in one turn of the event loop, are taken away together. They run one after
the other in one transaction. Where one of them fails, all is rolled back and each is run again by itself, so what fails
takes no neighbour with it; that second round costs more, and is rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from worker.store.availability import StoreUnavailableError
from worker.store.database.faults import is_conflict, is_lost, translated

T = TypeVar("T")
Work = Callable[[Connection], T]

Order = tuple[str, ...]
"""Sorts what shares a transaction; the same row has the same one in every process."""


@dataclass(slots=True, eq=False)
class Write:
    """A write that waits for its transaction.

    Attributes:
        work: What to do; it may be run more than once, but is committed at most once.
        order: Names the only row that it locks, or None where it locks others as well.
        ended: Holds the answer for the one who waits.
    """

    work: Work[Any]
    order: Order | None
    ended: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def attempt(self, connection: Connection) -> None:
        """Do the work in a transaction that is shared, and ends with it if it fails.

        Raises:
            WorkError: It did.
        """
        try:
            self.result = self.work(connection)
        except Exception as error:
            raise WorkError(error) from error

    def tell(self) -> None:
        """Hand the result to the one who waits, unless nobody does any more."""
        if self.ended.done():
            return
        if self.error is not None:
            self.ended.set_exception(self.error)
        else:
            self.ended.set_result(self.result)


class WorkError(Exception):
    """A work failed, not the transaction around it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Transactions(Protocol):
    """How an engine runs writes."""

    async def run_together(self, writes: Sequence[Write]) -> None:
        """Run all in one transaction.

        Raises:
            WorkError: One of them failed; nothing was stored.
        """

    async def run_apart(self, writes: Sequence[Write]) -> None:
        """Run each so that it is stored or fails alone, and note what failed in the write itself."""


class Batches:
    """The writes of one database that wait, and the lanes that take them away.

    Args:
        name: The store's URL without its password.
        transactions: The engine.
        choose: Takes the next batch out of those that wait, in the order in which they came.
        lanes: Batches under way at a time.
        answer_seconds: After so long an unanswered write counts as failed: nothing may wait for ever.
    """

    def __init__(
        self,
        name: str,
        transactions: Transactions,
        *,
        choose: Callable[[list[Write]], list[Write]],
        lanes: int,
        answer_seconds: float,
    ) -> None:
        self._name = name
        self._transactions = transactions
        self._choose = choose
        self._lanes = lanes
        self._answer_seconds = answer_seconds
        self._waiting: list[Write] = []
        self._busy = 0
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def write(self, work: Work[T], *, order: Order | None) -> T:
        """Put a work into the next batch and wait for its answer.

        Raises:
            StoreUnavailableError: The engine failed, did not answer in time, or is closed.
        """
        if self._is_closed:
            raise self._closed()
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Write(work, order, ended))
        self._open_lane()
        with translated(self._name):
            async with asyncio.timeout(self._answer_seconds):
                return await ended

    async def close(self) -> None:
        """Take no more writes, and finish those that wait; who cannot wait so long calls `abandon`."""
        self._is_closed = True
        while self._running:
            await asyncio.wait(self._running)

    def abandon(self) -> None:
        """Give up what runs and what waits, as a crash would."""
        self._is_closed = True
        _note(self._waiting, self._closed())
        for write in self._waiting:
            write.tell()
        for lane in self._running:
            lane.cancel()

    def _closed(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"The store {self._name} is closed")

    def _open_lane(self) -> None:
        if self._busy == self._lanes:
            return
        self._busy += 1
        lane = asyncio.create_task(self._run_lane())
        self._running.add(lane)
        lane.add_done_callback(self._running.discard)

    async def _run_lane(self) -> None:
        """Run batches until none waits; no write can come between the last look and the end."""
        while batch := self._next_batch():
            await self._run(batch)
            for write in batch:
                write.tell()
        self._busy -= 1

    def _next_batch(self) -> list[Write]:
        """Take the next batch away, without the writes for which nobody waits any more: none of them has begun."""
        self._waiting = [write for write in self._waiting if not write.ended.done()]
        return self._choose(self._waiting)

    async def _run(self, batch: list[Write]) -> None:
        try:
            await self._transactions.run_together(batch)
        except WorkError as error:
            if _is_hopeless(error.cause, len(batch)):
                _note(batch, error.cause)
            else:
                await self._run_apart(batch)
        except asyncio.CancelledError:
            _note(batch, self._closed())
        except BaseException as error:  # noqa: BLE001 - each waits for an answer, whatever it is
            _note(batch, error)

    async def _run_apart(self, batch: list[Write]) -> None:
        try:
            await self._transactions.run_apart(batch)
        except asyncio.CancelledError:
            _note(batch, self._closed())
        except BaseException as error:  # noqa: BLE001 - the same
            _note(batch, error)


def _is_hopeless(error: Exception, writes: int) -> bool:
    return is_lost(error) or (writes == 1 and not is_conflict(error))


def _note(batch: list[Write], error: BaseException) -> None:
    for write in batch:
        write.error = error
