"""SQLite: one file, for any number of worker processes on one host.

Reads go through aiosqlite, but each write transaction is one visit to a writer thread, from ``BEGIN IMMEDIATE`` to
``COMMIT``, for two reasons:

- aiosqlite makes a round trip between threads for every cursor, statement and fetch. Measured for a claim and a finish:
  2.8 ms of CPU with it, 0.8 ms in one visit.
- A transaction that spans turns of the event loop keeps the write lock while the loop is busy with something else, and
  with the lock every other worker on the host waits, heartbeats included.

The one writer thread is also the lock that keeps a process down to one writer connection.

Only `connect` makes the file. Later connections open what is there, and every transaction first looks whether it still is
(`worker.store.database.place`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.store.database.batches import Batches, Order, T, Work, Write
from worker.store.database.faults import translated, unavailable
from worker.store.database.place import Place

_BATCH = 256
"""Writes that share a commit: a bound on how long other processes wait for the lock."""

_ANSWER_LOCKS = 3
"""A write is given up after this many times the time it may wait for the lock: its turn, and two batches before it."""

_TURN_SECONDS = 0.25
"""SQLite cannot be called away while it waits for a lock, so it is sent to wait for so long at a time."""

_CLOSE_SECONDS = 1.0


class SqliteDatabase:
    """The engine for SQLite."""

    def __init__(self, url: URL, *, lock_seconds: float) -> None:
        if not url.database or url.database == ":memory:":
            raise ValueError("The store's URL must name a file: sqlite:///relative/path or sqlite:////absolute/path")
        self._name = f"sqlite:///{url.database}"
        _make_private_file(Path(url.database))
        self._answer_seconds = _ANSWER_LOCKS * lock_seconds
        self._place = Place(url.database)
        self._writer = _Writer(self._place, lock_seconds=lock_seconds)
        self._reader = _make_reader(self._place, lock_seconds=lock_seconds)
        self._batches = Batches(self._name, self._writer, choose=choose, lanes=1, answer_seconds=self._answer_seconds)

    async def write(self, work: Work[T], *, order: Order | None = None) -> T:
        """Run ``work`` in the writer thread, in one transaction with what else waits there.

        A commit costs a sync of the disk and two changes of thread; writes that come while one is under way share the
        next. The order does not matter: the whole file has one lock.
        """
        return await self._batches.write(work, order=order)

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on a connection that cannot write."""
        with translated(self._name):
            async with asyncio.timeout(self._answer_seconds), self._reader.connect() as connection:
                self._place.check()
                return await connection.run_sync(work)

    async def close(self) -> None:
        """Finish queued writes, but wait no longer than a second for another process's lock; then close."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._batches.close()
        except TimeoutError:
            self._batches.abandon()
        await self._writer.close()
        await self._reader.dispose()


class _Writer:
    """The only connection that writes, and the only thread that uses it."""

    def __init__(self, place: Place, *, lock_seconds: float) -> None:
        self._place = place
        self._closing = threading.Event()
        self._engine = _make_writer(place, lock_seconds=lock_seconds, closing=self._closing)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-store")

    async def run_together(self, writes: Sequence[Write]) -> None:
        """Run all in one transaction."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write_together, writes)

    async def run_apart(self, writes: Sequence[Write]) -> None:
        """Run each in a savepoint; they cost two statements each, so only where a first try shows that they are due."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write_apart, writes)

    async def close(self) -> None:
        """End the thread, also where it waits for the lock, and close the connection."""
        self._closing.set()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._thread.shutdown)
        await loop.run_in_executor(None, self._engine.dispose)

    def _write_together(self, writes: Sequence[Write]) -> None:
        with self._engine.begin() as connection:
            self._place.check()
            for write in writes:
                write.attempt(connection)

    def _write_apart(self, writes: Sequence[Write]) -> None:
        with self._engine.begin() as connection:
            self._place.check()
            for write in writes:
                try:
                    with connection.begin_nested():
                        write.result = write.work(connection)
                except Exception as error:  # noqa: BLE001 - it goes to the one who asked for the write
                    write.error = error


def choose(waiting: list[Write]) -> list[Write]:
    """Take whatever waits, in the order in which it came."""
    batch = waiting[:_BATCH]
    del waiting[:_BATCH]
    return batch


def _make_writer(place: Place, *, lock_seconds: float, closing: threading.Event) -> Engine:
    engine = create_engine(
        _url(place, driver="sqlite"),
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": min(lock_seconds, _TURN_SECONDS)},
    )
    _watch_place(engine, place)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Without this, the driver opens deferred transactions of its own.
        connection.isolation_level = None
        _use_write_ahead_log(connection, seconds=2 * lock_seconds)
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that reads first and then writes fails at once when another one wrote between.
        _take_lock(connection, seconds=lock_seconds, closing=closing)

    return engine


def _make_reader(place: Place, *, lock_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        _url(place, driver="sqlite+aiosqlite"),
        pool_size=1,
        max_overflow=3,
        hide_parameters=True,
        connect_args={"timeout": lock_seconds},
    )
    _watch_place(engine.sync_engine, place)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def _url(place: Place, *, driver: str) -> URL:
    """Name the file so that no connection makes it anew."""
    return URL.create(driver, database=place.uri, query={"mode": "rw", "uri": "true"})


def _watch_place(engine: Engine, place: Place) -> None:
    """Open no other file than the first one: it would stay in the pool when that is back."""
    event.listen(engine, "do_connect", lambda *_: place.check())
    event.listen(engine, "connect", lambda *_: place.note_opened())


def _take_lock(connection: Connection, *, seconds: float, closing: threading.Event) -> None:
    """Begin a transaction that writes, and wait for the lock so long, unless the store is being closed."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if "locked" not in str(error.orig) or closing.is_set() or time.monotonic() >= give_up:
                raise


def _make_private_file(path: Path) -> None:
    """Make the file, and its folder where it is missing, for the worker's own user only: replies are in it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a new file may be opened here: closing any descriptor of one that SQLite has open drops this process's
        # locks on it, and the next process that is through with the file then deletes the log under us.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise unavailable(f"sqlite:///{path}", error) from error


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
