"""The store as the rest of the worker sees it: one object, one call, one transaction."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from worker.store import cancellations, heartbeat, inbox
from worker.store.availability import Availability, StoreUnavailableError
from worker.store.calls import JobCalls, OrderCalls, ProgramCalls
from worker.store.database import Database, connect
from worker.store.heartbeat import Heartbeat
from worker.store.inbox import Tenure
from worker.store.schema import prepare_schema
from worker.store.workers import WorkerReport

MAX_ROW_AGE_MS = (7_200 + 86_400) * 1000
"""How long a row that is not done is kept by default: the largest job age and the lifetime of a result."""

_LEAVE_SECONDS = 1.0


class Store(JobCalls, ProgramCalls, OrderCalls):
    """Programs, the inbox and this process's heartbeat, in one database.

    Every method may raise `StoreUnavailableError`, and every method may then be called again with the same arguments:
    a claim that was stored unseen is found, and an outcome that was stored unseen is returned.
    """

    def __init__(self, database: Database, *, tenure: Tenure, pulse: Heartbeat) -> None:
        """Use `Store.open`."""
        super().__init__(database, tenure=tenure, pulse=pulse, availability=Availability(self.ping))
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        namespace: str,
        worker_id: str,
        lease_seconds: float,
        max_row_age_ms: int = MAX_ROW_AGE_MS,
        version: str = "",
    ) -> Store:
        """Connect, create missing tables, register this worker and start its heartbeat.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user@host/database``, with or without a driver's name.
            namespace: The deployment; deployments in one database never meet.
            worker_id: Shown in the ``workers`` table, followed by letters that make it unique: a restarted worker may
                use its id again and still finds the rows of its former life without a living owner.
            lease_seconds: After how many seconds without a heartbeat a worker's running jobs may be taken over.
            max_row_age_ms: How long a row that is not done is kept after it was last touched.
            version: The worker's, for `list_workers`.

        Raises:
            ValueError: The URL is none that the store understands.
            StoreMisfitError: It was made by another version, or cannot be used as long as nobody changes something.
            StoreUnavailableError: The database cannot be reached or used now.
        """
        owner = f"{worker_id}/{uuid.uuid4().hex[:8]}"
        tenure = Tenure(namespace=namespace, owner=owner, lease_ms=int(lease_seconds * 1000), row_age_ms=max_row_age_ms)
        report = WorkerReport(version)
        database = connect(url)
        try:
            await database.write(prepare_schema)
            await database.write(lambda connection: heartbeat.beat(connection, tenure=tenure, report=report))
        except BaseException:
            await database.close()
            raise
        pulse = Heartbeat(connect(url, lock_seconds=heartbeat.LOCK_SECONDS), tenure=tenure, report=report)
        pulse.start()
        return cls(database, tenure=tenure, pulse=pulse)

    async def close(self) -> None:
        """Stop the heartbeat and remove the worker's row, so that its running jobs can be taken over at once.

        A store that is down or hangs only costs the others the wait for the lease: it takes 2 seconds where that is known,
        else 3. Closing twice is closing once.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await self.availability.close()
        is_answering = self.is_answering
        await self._pulse.stop()
        if is_answering:
            await self._leave()
        await self._database.close()

    async def _leave(self) -> None:
        with suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._database.write(lambda connection: heartbeat.leave(connection, tenure=self._tenure))

    @property
    def is_answering(self) -> bool:
        """Whether the store seems to answer: it is not known to be down, and the heartbeat gets through."""
        return self.availability.is_up and not self._pulse.is_missing

    def report(self, status: str) -> None:
        """Say with the next heartbeats how this worker is; it waits for nothing.

        Args:
            status: JSON text of an object, as `worker.store.workers` reads it.
        """
        self._pulse.report = replace(self._pulse.report, status=status)

    async def ping(self) -> None:
        """Find out whether the store takes writes, by one more heartbeat; also where it is known to be down.

        Raises:
            StoreUnavailableError: It does not.
        """
        report = self._pulse.report
        await self._database.write(lambda connection: heartbeat.beat(connection, tenure=self._tenure, report=report))

    async def sweep(self) -> int:
        """Delete what is past its time, in short transactions, and return the number of rows.

        These are outcomes and cancel marks past their lifetime, rows that are not done and were not touched for
        ``max_row_age_ms``, and workers that have long been dead.
        """
        tenure = self._pulse.excuse(self._tenure)
        swept = await self._write(lambda connection: heartbeat.sweep_workers(connection, tenure=tenure))
        swept += await self._sweep(inbox.sweep)
        return swept + await self._sweep(cancellations.sweep_cancellations)

    async def _sweep(self, sweep: Callable[..., int]) -> int:
        swept = 0
        while True:
            batch = await self._write(lambda connection: sweep(connection, namespace=self._namespace))
            swept += batch
            if batch < inbox.SWEEP_BATCH:
                return swept
