"""The worker's heartbeat: one row per process, written by a thread of its own.

A busy or blocked event loop must not make its process look dead, so the thread has its own loop and its own connection.
A store that fails stops nothing: the next beat tries again, and writes the row anew where a sweep took it.

Where this process could not beat, the others probably could not either. Right after an outage of the store, all of them
look dead to the first one that asks, and their jobs would run twice. So a process that has missed its own beats excuses
those of the others for as long, until all have had the time to beat again: see `Heartbeat.excuse`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace

import structlog
from sqlalchemy import BigInteger, Connection, bindparam, delete
from sqlalchemy.dialects import postgresql, sqlite

from worker.store.availability import StoreUnavailableError
from worker.store.database import Database
from worker.store.inbox import Tenure
from worker.store.schema import NowMs, workers
from worker.store.workers import WorkerReport

LOCK_SECONDS = 1.0
"""How long a beat waits for the write lock; less than the time to the next two."""

_LONGEST_BEAT_SECONDS = 3 * LOCK_SECONDS
"""When a beat that is not answered is given up; see `worker.store.database.connect`."""

_MISSED_BEATS = 3
"""A pause of so many beats is no coincidence any more."""

_DEAD_WORKER_MS = 60_000
"""A worker's row is kept at least this long after its last beat, to be looked at."""

log = structlog.get_logger()

_BEATS = {
    name: insert(workers)
    .values(
        namespace=bindparam("namespace"),
        worker_id=bindparam("worker_id"),
        host=bindparam("host"),
        started_ms=NowMs(),
        seen_ms=NowMs(),
        version=bindparam("version"),
        status=bindparam("status"),
    )
    .on_conflict_do_update(
        index_elements=[workers.c.namespace, workers.c.worker_id],
        set_={"seen_ms": NowMs(), "version": bindparam("version"), "status": bindparam("status")},
    )
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_LEAVE = delete(workers).where(
    workers.c.namespace == bindparam("b_namespace"), workers.c.worker_id == bindparam("b_worker_id")
)
_SWEEP = delete(workers).where(
    workers.c.namespace == bindparam("b_namespace"),
    workers.c.seen_ms < NowMs() - bindparam("b_age_ms", type_=BigInteger),
)


def beat(connection: Connection, *, tenure: Tenure, report: WorkerReport) -> None:
    """Write that this process lives now, and what it says of itself."""
    values = {
        "namespace": tenure.namespace,
        "worker_id": tenure.owner,
        "host": socket.gethostname(),
        "version": report.version,
        "status": report.status,
    }
    connection.execute(_BEATS[connection.dialect.name], values)


def leave(connection: Connection, *, tenure: Tenure) -> None:
    """Delete this process's row: its running jobs may be taken over at once."""
    connection.execute(_LEAVE, {"b_namespace": tenure.namespace, "b_worker_id": tenure.owner})


def sweep_workers(connection: Connection, *, tenure: Tenure) -> int:
    """Delete the rows of workers that have long been dead and return how many they were."""
    age_ms = max(_DEAD_WORKER_MS, 10 * tenure.lease_ms)
    return connection.execute(_SWEEP, {"b_namespace": tenure.namespace, "b_age_ms": age_ms}).rowcount


class Heartbeat:
    """A daemon thread that beats every second, or five times a lease where that is shorter.

    It owns the database it is given: no other thread may use it.

    Attributes:
        report: What the next beat says of this worker. Other threads replace it as a whole, and never change it, so that
            the beat neither waits for them nor looks into what they are changing.
    """

    def __init__(self, database: Database, *, tenure: Tenure, report: WorkerReport | None = None) -> None:
        self.report = report or WorkerReport()
        self._database = database
        self._tenure = tenure
        self._seconds = min(1.0, tenure.lease_ms / 5000)
        self._beaten_at = time.monotonic()
        self._missed_seconds = 0.0
        self._excused_until = 0.0
        self._loop = asyncio.new_event_loop()
        self._is_stopped = False
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="dspex-heartbeat", daemon=True)

    @property
    def is_missing(self) -> bool:
        """Whether this process could not beat for a while; may be asked from any thread."""
        return time.monotonic() - self._beaten_at > _MISSED_BEATS * self._seconds

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def excuse(self, tenure: Tenure) -> Tenure:
        """Return a tenure whose lease is longer by the time for which this process could not beat, if it just could not.

        May be called from any thread.
        """
        now = time.monotonic()
        missed = now - self._beaten_at
        if missed <= _MISSED_BEATS * self._seconds:
            missed = self._missed_seconds if now < self._excused_until else 0.0
        return replace(tenure, lease_ms=tenure.lease_ms + int(missed * 1000)) if missed else tenure

    async def stop(self) -> None:
        """Stop beating and wait until the thread is gone; a beat in the database is given up."""
        self._loop.call_soon_threadsafe(self._cancel)
        await asyncio.to_thread(self._thread.join)

    def _cancel(self) -> None:
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._beat())

    def _note_beat(self) -> None:
        now = time.monotonic()
        missed = now - self._beaten_at
        if missed > _MISSED_BEATS * self._seconds:
            self._missed_seconds = missed
            self._excused_until = now + _LONGEST_BEAT_SECONDS + 2 * self._seconds
        self._beaten_at = now

    async def _beat(self) -> None:
        self._task = asyncio.current_task()
        is_well = True
        try:
            while not self._is_stopped:
                try:
                    await self._database.write(
                        lambda connection: beat(connection, tenure=self._tenure, report=self.report)
                    )
                    self._note_beat()
                    is_well = True
                except Exception as error:  # noqa: BLE001 - whatever it is, the process lives and must say so again
                    if is_well:
                        # The words of any other error may quote a value.
                        reason = str(error) if isinstance(error, StoreUnavailableError) else type(error).__name__
                        log.warning("heartbeat.failed", reason=reason, again_seconds=self._seconds)
                    is_well = False
                await asyncio.sleep(self._seconds)
        finally:
            await self._database.close()
