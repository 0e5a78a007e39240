"""The two engines behind one seam: ``write`` and ``read`` run a plain function in one transaction.

The function takes a SQLAlchemy Core ``Connection`` and is the same on both engines. On PostgreSQL it runs on the event
loop through ``AsyncConnection.run_sync`` and asyncpg. On SQLite reads go the same way through aiosqlite, but each write
transaction is one visit to a writer thread, from ``BEGIN IMMEDIATE`` to ``COMMIT``, for two reasons:

- aiosqlite makes a round trip between threads for every cursor, statement and fetch. Measured for a claim and a finish:
  2.8 ms of CPU with it, 0.8 ms in one visit.
- A transaction that spans turns of the event loop keeps the write lock while the loop is busy with something else, and
  with the lock every other worker on the host waits, heartbeats included.

The one writer thread is also the lock that keeps a process down to one writer connection.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.store.records import StoreUnavailableError

T = TypeVar("T")
Work = Callable[[Connection], T]

_BATCH = 256
"""Writes that share a commit on SQLite: a bound on how long other processes wait for the lock."""

_POSTGRES_CONNECTIONS = 5
"""Per process, beside one for the heartbeat: eight workers stay below PostgreSQL's default of 100."""

_HINTS = (
    ("locked", "Another process holds the write lock: look for a long transaction on the file, or use PostgreSQL."),
    ("disk is full", "Free some space on the disk of the store."),
    ("No space left", "Free some space on the disk of the store."),
    ("readonly", "Give the worker's user write access to the file and its folder."),
    ("unable to open", "Check that the folder in DSPEX_STORE_URL exists and that the worker's user may write to it."),
    ("password", "Check user and password in DSPEX_STORE_URL."),
    ("does not exist", "Create the database named in DSPEX_STORE_URL, or correct the name."),
    ("malformed", "The file is damaged: restore a backup, or name another DSPEX_STORE_URL."),
    ("not a database", "DSPEX_STORE_URL names a file of another kind: name another one."),
)
# PostgreSQL: undefined table, undefined column, insufficient privilege: the database is not as this worker left it.
_NOT_THERE = frozenset(("42P01", "42703", "42501"))
_GENERAL_HINT = "Check DSPEX_STORE_URL, and that the database runs and can be reached from here."


class Database(Protocol):
    """A place to run transactions."""

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in one write transaction: all of it is stored, or, if it raises, nothing."""

    async def read(self, work: Work[T]) -> T:
        """Run ``work``, which only reads, beside the writes."""

    async def close(self) -> None:
        """Finish what runs and give all connections back."""


def connect(url: str, *, lock_seconds: float = 5.0) -> Database:
    """Make the database that a URL names; the first connection is made by its first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``, with or without the driver's name in it.
        lock_seconds: How long a write may wait for another one before it gives up.

    Raises:
        ValueError: The URL is none that the store understands.
        StoreUnavailableError: The driver for PostgreSQL is not installed, or the SQLite file cannot be made.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("The store's URL must look like sqlite:///path or postgresql://user@host/database") from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return SqliteDatabase(parsed, lock_seconds=lock_seconds)
    if backend in ("postgresql", "postgres"):
        return PostgresDatabase(parsed, lock_seconds=lock_seconds)
    raise ValueError(f"The store can be sqlite:///path or postgresql://…, not {backend}://")


@dataclass(slots=True)
class _Write:
    """A write that waits for its transaction."""

    work: Work[Any]
    ended: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def attempt(self, connection: Connection) -> None:
        """Do the work in the batch's own transaction, which ends with it if it fails.

        Raises:
            _WorkError: It did.
        """
        try:
            self.result = self.work(connection)
        except Exception as error:
            raise _WorkError(error) from error

    def run(self, connection: Connection) -> None:
        """Do the work in a savepoint of its own: what fails takes no neighbour with it."""
        try:
            with connection.begin_nested():
                self.result = self.work(connection)
        except Exception as error:  # noqa: BLE001 - it goes to the one who asked for the write
            self.error = error

    def tell(self) -> None:
        """Hand the result to the one who waits, unless nobody does any more."""
        if self.ended.done():
            return
        if self.error is not None:
            self.ended.set_exception(self.error)
        else:
            self.ended.set_result(self.result)


class _WorkError(Exception):
    """A work failed, not the transaction around it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class SqliteDatabase:
    """One file, for any number of worker processes on one host."""

    def __init__(self, url: URL, *, lock_seconds: float) -> None:
        if not url.database or url.database == ":memory:":
            raise ValueError("The store's URL must name a file: sqlite:///relative/path or sqlite:////absolute/path")
        self._name = f"sqlite:///{url.database}"
        self._lock_seconds = lock_seconds
        _make_private_file(Path(url.database))
        self._writer = self._make_writer(url.database)
        self._reader = self._make_reader(url.database)
        self._is_closed = False
        self._waiting: list[_Write] = []
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-store")

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in the writer thread, in one transaction with what else waits there.

        A commit costs a sync of the disk and two changes of thread; writes that come while one is under way share the
        next. One that fails takes no other with it; where the transaction itself fails, all of the batch are told.
        """
        if self._is_closed:
            raise StoreUnavailableError(f"The store {self._name} is closed")
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(work, ended))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_batches())
        with _translated(self._name):
            return await ended

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on a connection that cannot write."""
        with _translated(self._name):
            async with self._reader.connect() as connection:
                return await connection.run_sync(work)

    async def close(self) -> None:
        """Finish queued writes, then close."""
        self._is_closed = True
        if self._writing is not None:
            await self._writing
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._thread.shutdown)
        await loop.run_in_executor(None, self._writer.dispose)
        await self._reader.dispose()

    async def _write_batches(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, batch)
            for write in batch:
                write.tell()

    def _transact(self, batch: list[_Write]) -> None:
        """Write a batch; savepoints, which cost two statements each, only where a first try shows that they are due."""
        try:
            if not self._write_plainly(batch):
                with self._writer.begin() as connection:
                    for write in batch:
                        write.run(connection)
        except BaseException as error:  # noqa: BLE001 - each waits for an answer, whatever it is
            for write in batch:
                write.error = error

    def _write_plainly(self, batch: list[_Write]) -> bool:
        """Write a batch in one transaction and return whether all of it could be written."""
        try:
            with self._writer.begin() as connection:
                for write in batch:
                    write.attempt(connection)
        except _WorkError as error:
            if len(batch) == 1:
                raise error.cause from None
            return False
        return True

    def _make_writer(self, path: str) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=path),
            pool_size=1,
            max_overflow=0,
            connect_args={"timeout": self._lock_seconds},
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            # Without this, the driver opens deferred transactions of its own.
            connection.isolation_level = None
            _use_write_ahead_log(connection, seconds=2 * self._lock_seconds)
            connection.execute("PRAGMA synchronous=FULL")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A deferred transaction that reads first and then writes fails at once when another one wrote between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine

    def _make_reader(self, path: str) -> AsyncEngine:
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=path),
            pool_size=1,
            max_overflow=3,
            connect_args={"timeout": self._lock_seconds},
        )

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA query_only=ON")
            cursor.close()

        return engine


class PostgresDatabase:
    """A server, for workers on many hosts."""

    def __init__(self, url: URL, *, lock_seconds: float) -> None:
        url = _for_asyncpg(url)
        self._name = url.set(drivername="postgresql").render_as_string(hide_password=True)
        try:
            self._engine = create_async_engine(
                url,
                pool_size=_POSTGRES_CONNECTIONS,
                max_overflow=0,
                connect_args={
                    "timeout": lock_seconds,
                    "command_timeout": 2 * lock_seconds,
                    "server_settings": {
                        "lock_timeout": str(int(lock_seconds * 1000)),
                        "jit": "off",
                        "application_name": "dspex-worker",
                    },
                },
            )
        except ModuleNotFoundError as error:
            raise StoreUnavailableError(
                "A PostgreSQL store needs the extra `postgres`: pip install 'dspex-worker[postgres]'"
            ) from error

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in one transaction."""
        with _translated(self._name):
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction that is rolled back."""
        with _translated(self._name):
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _make_private_file(path: Path) -> None:
    """Make the file, and its folder where it is missing, for the worker's own user only: replies are in it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise _unavailable(f"sqlite:///{path}", error) from error


def _use_write_ahead_log(connection: sqlite3.Connection, *, seconds: float) -> None:
    """Switch the file to its write-ahead log; SQLite does not wait by itself where another process does so too."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
        time.sleep(0.01)


def _for_asyncpg(url: URL) -> URL:
    """Name the async driver, and translate libpq's ``sslmode``, which asyncpg calls ``ssl``."""
    url = url.set(drivername="postgresql+asyncpg")
    if "sslmode" not in url.query:
        return url
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn every fault of the engine into `StoreUnavailableError`; let faults of our own statements through."""
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError) as error:
        if getattr(error.orig, "sqlstate", None) in _NOT_THERE:
            raise _unavailable(name, error.orig or error) from error
        raise
    except DBAPIError as error:
        raise _unavailable(name, error.orig or error) from error
    except (OSError, TimeoutError, PoolTimeoutError) as error:
        raise _unavailable(name, error) from error
    except Exception as error:
        if type(error).__module__.startswith("asyncpg"):
            raise _unavailable(name, error) from error
        raise


def _unavailable(name: str, error: BaseException) -> StoreUnavailableError:
    reason = str(error) or type(error).__name__
    hint = next((hint for words, hint in _HINTS if words in reason), _GENERAL_HINT)
    return StoreUnavailableError(f"The store {name} cannot be used: {reason}. {hint}")
