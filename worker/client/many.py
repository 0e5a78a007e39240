"""Run a program on many rows, a bounded number of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from worker.client.errors import ArgumentError, ClientError
from worker.client.result import Result

K = TypeVar("K")

Inputs = Mapping[str, Any]
KeyedRows = Mapping[K, Inputs] | Iterable[tuple[K, Inputs]] | AsyncIterable[tuple[K, Inputs]]

Run = Callable[[Any], Awaitable[Result]]
Progress = Callable[[int, int | None], object]
"""Called with the number of rows that are done and that of all rows, None where it is not known."""

_END: Any = object()


@dataclass(frozen=True, slots=True)
class RowResult(Generic[K]):
    """What became of one row: ``value``, or ``error``.

    Attributes:
        index: The row's place, from 0, in the order in which rows were taken.
        key: The row's own key; its index where it has none.
        value: What the run gave; None where it failed.
        error: Why it failed; None where it did not.
    """

    index: int
    key: K
    value: Result | None = None
    error: ClientError | None = None

    def unwrap(self) -> Result:
        """Return the value.

        Raises:
            ClientError: The row's error.
        """
        if self.value is None:
            raise self.error or ClientError("The row has neither value nor error")
        return self.value


class Rows:
    """Rows of any accepted shape, one at a time.

    Args:
        rows: A mapping of key → inputs; or an iterable, or asynchronous iterable, of inputs or (key, inputs) pairs.

    Raises:
        ArgumentError: It is none of them.
    """

    def __init__(self, rows: object) -> None:
        self.total = len(rows) if isinstance(rows, Sized) else None
        self._count = 0
        self._source: AsyncIterator[Any] | Iterator[Any]
        if isinstance(rows, AsyncIterable):
            self._source = aiter(rows)
        elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
            self._source = iter(rows.items() if isinstance(rows, Mapping) else rows)
        else:
            told = f"rows must be a mapping of key → inputs or an iterable of inputs, not of type {type(rows).__name__}"
            raise ArgumentError(told, field="rows")

    async def take(self) -> tuple[int, Any, Any] | None:
        """Return the next row's index, key and inputs; None after the last."""
        source = self._source
        row = await anext(source, _END) if isinstance(source, AsyncIterator) else next(source, _END)
        if row is _END:
            return None
        index, self._count = self._count, self._count + 1
        key, inputs = row if isinstance(row, tuple) and len(row) == 2 else (index, row)
        return index, key, inputs


class _Running:
    """The rows under way, at most so many, and the task that takes the next one.

    Results that nobody has fetched yet count as under way: so a slow reader slows down what is published.
    """

    def __init__(self, rows: Rows, run: Run, *, limit: int) -> None:
        self._rows = rows
        self._run = run
        self._limit = limit
        self._taking: asyncio.Task[tuple[int, Any, Any] | None] | None = None
        self._tasks: set[asyncio.Task[RowResult[Any]]] = set()
        self._failure: BaseException | None = None
        self._is_exhausted = False

    async def next(self) -> RowResult[Any] | None:
        """Return a row that is done, None after the last.

        Raises:
            Exception: That of the rows' iterator, after the results of all rows before it.
        """
        while True:
            for task in self._tasks:
                if task.done():
                    self._tasks.remove(task)
                    return task.result()
            self._fill()
            if not self._tasks and self._taking is None:
                break
            waiting: set[asyncio.Task[Any]] = self._tasks | ({self._taking} if self._taking else set())
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            self._start()
        if self._failure is not None:
            raise self._failure
        return None

    async def stop(self) -> None:
        """Cancel what is under way; a row that was published may still run, and its result is kept."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *([self._taking] if self._taking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        if self._taking is None and not self._is_exhausted and len(self._tasks) < self._limit:
            self._taking = asyncio.create_task(self._rows.take())

    def _start(self) -> None:
        """Run the row that was taken, if one was."""
        if self._taking is None or not self._taking.done():
            return
        taking, self._taking = self._taking, None
        self._failure = taking.exception()
        row = None if self._failure else taking.result()
        if row is None:
            self._is_exhausted = True
        else:
            self._tasks.add(asyncio.create_task(self._one(*row)))

    async def _one(self, index: int, key: Any, inputs: Any) -> RowResult[Any]:
        try:
            return RowResult(index, key, value=await self._run(inputs))
        except ClientError as error:
            return RowResult(index, key, error=error)


async def run_many(
    rows: Rows, run: Run, *, check_open: Callable[[], None], max_in_flight: int, on_progress: Progress | None
) -> AsyncGenerator[RowResult[Any], None]:
    """Yield what becomes of each row, in the order in which they end.

    Args:
        rows: Taken one by one, when there is room for one more.
        run: Runs one row's inputs.
        check_open: Raises where no further row can succeed.
        max_in_flight: Rows at once, those included whose result was not fetched yet.
        on_progress: Called before each result is handed out.
    """
    running, done = _Running(rows, run, limit=max_in_flight), 0
    try:
        while (result := await running.next()) is not None:
            check_open()
            done += 1
            if on_progress is not None:
                on_progress(done, rows.total)
            yield result
    finally:
        await running.stop()
