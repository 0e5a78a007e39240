"""PostgreSQL: a server, for workers on many hosts.

Works run on the event loop through ``AsyncConnection.run_sync`` and asyncpg. Which writes share a transaction is
decided by what they lock, because all locks of a transaction are held until its end: two of them that hold the same rows
in different order wait for each other for ever.

- Writes that lock one job's row each share one, sorted by that row: any two batches, of any two workers, lock in the
  same order.
- Writes that lock more (a program and its creator's row, a sweep) have a transaction of their own.

Where the server breaks a deadlock all the same, each write of the batch is run again alone.

See Also:
    `worker.store.database.libpq`: what the options in the URL become.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.store.availability import StoreMisfitError
from worker.store.database.batches import Batches, Order, T, Work, Write
from worker.store.database.faults import is_conflict, is_lost, translated
from worker.store.database.libpq import Options, read_options

_CONNECTIONS = 5
"""Per process, beside one for the heartbeat: eight workers stay below PostgreSQL's default of 100."""

_LANES = _CONNECTIONS - 1
"""Batches at a time; one connection is left for reads."""

_BATCH = 64
"""Writes that share a commit: a bound on how long others wait for their rows."""

_CONFLICT_ATTEMPTS = 3
_ANSWER_LOCKS = 3
"""A call is given up after this many times the time it may wait for a lock; a statement after two."""

_CLOSE_SECONDS = 1.0
"""For all of the close together: a server that hangs would otherwise take 10 seconds for each connection."""


class PostgresDatabase:
    """The engine for PostgreSQL."""

    def __init__(self, url: URL, *, lock_seconds: float) -> None:
        options = read_options(url)
        self._name = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
        self._answer_seconds = _ANSWER_LOCKS * lock_seconds
        self._engine = _make_engine(options, lock_seconds=lock_seconds)
        self._opened: WeakSet[Any] = WeakSet()
        event.listen(self._engine.sync_engine, "connect", self._note_opened)
        self._batches = Batches(
            self._name,
            _Transactions(self._engine, seconds=self._answer_seconds),
            choose=choose,
            lanes=_LANES,
            answer_seconds=self._answer_seconds,
        )

    async def write(self, work: Work[T], *, order: Order | None = None) -> T:
        """Run ``work`` in one transaction, shared with other works where all of them lock one row only."""
        return await self._batches.write(work, order=order)

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction that is rolled back."""
        with translated(self._name):
            async with asyncio.timeout(self._answer_seconds), self._engine.connect() as connection:
                return await connection.run_sync(work)

    async def close(self) -> None:
        """Finish queued writes and close all connections, within a second; then cut off what does not answer."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._batches.close()
                await asyncio.gather(*(each.close() for each in self._opened), return_exceptions=True)
        except TimeoutError:
            self._batches.abandon()
            for each in list(self._opened):
                each.terminate()
        await self._engine.dispose()

    def _note_opened(self, connection: Any, _record: object) -> None:
        self._opened.add(connection.driver_connection)


class _Transactions:
    """Runs writes on connections of a pool."""

    def __init__(self, engine: AsyncEngine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds

    async def run_together(self, writes: Sequence[Write]) -> None:
        """Run all in one transaction, in the order of their rows."""
        in_order = sorted(writes, key=lambda write: write.order or ())

        def attempt_all(connection: Connection) -> None:
            for write in in_order:
                write.attempt(connection)

        await self._transact(attempt_all)

    async def run_apart(self, writes: Sequence[Write]) -> None:
        """Run each in a transaction of its own; a lost connection ends all of them."""
        for write in writes:
            try:
                await self._run_alone(write)
            except Exception as error:
                if is_lost(error):
                    raise
                write.error = error

    async def _run_alone(self, write: Write) -> None:
        for attempt in range(1, _CONFLICT_ATTEMPTS + 1):
            try:
                write.result = await self._transact(write.work)
            except Exception as error:
                if attempt == _CONFLICT_ATTEMPTS or not is_conflict(error):
                    raise
            else:
                return

    async def _transact(self, work: Work[T]) -> T:
        async with asyncio.timeout(self._seconds), self._engine.begin() as connection:
            return await connection.run_sync(work)


def choose(waiting: list[Write]) -> list[Write]:
    """Take the writes that may share a transaction, or the first one where that must be alone."""
    if waiting and waiting[0].order is None:
        return [waiting.pop(0)]
    batch = [write for write in waiting if write.order is not None][:_BATCH]
    taken = set(map(id, batch))
    waiting[:] = [write for write in waiting if id(write) not in taken]
    return batch


def _make_engine(options: Options, *, lock_seconds: float) -> AsyncEngine:
    try:
        return create_async_engine(
            options.url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=lock_seconds,
            hide_parameters=True,
            connect_args={
                "timeout": options.connect_seconds or lock_seconds,
                "command_timeout": 2 * lock_seconds,
                "async_creator_fn": options.connect,
                **_session(options, lock_seconds=lock_seconds),
            },
        )
    except ModuleNotFoundError as error:
        raise StoreMisfitError(
            "A PostgreSQL store needs the extra `postgres`: pip install 'dspex-worker[postgres]'"
        ) from error


def _session(options: Options, *, lock_seconds: float) -> dict[str, Any]:
    """Return what asyncpg and SQLAlchemy's dialect are told about the server's side of a connection."""
    named = {"application_name": "dspex-worker", **options.server_settings}
    if not options.is_pooled:
        return {"server_settings": {**named, "lock_timeout": str(int(lock_seconds * 1000)), "jit": "off"}}
    # The unnamed statement lives in its transaction only; a lock is waited for as long as a statement.
    return {
        "server_settings": named,
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: "",
    }
