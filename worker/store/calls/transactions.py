"""What all calls of the store share: one transaction each, and the claims that this process holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from worker.errors import RefusedError
from worker.store import inbox
from worker.store.availability import Availability, StoreUnavailableError
from worker.store.database import Database
from worker.store.heartbeat import Heartbeat
from worker.store.inbox import Ending, Tenure, storable
from worker.store.records import Holding, Spent, StoredOutcome, Ticket

T = TypeVar("T")


class Calls:
    """Runs transactions on behalf of this process.

    Attributes:
        availability: Whether the store answers; all calls go through it.
    """

    def __init__(self, database: Database, *, tenure: Tenure, pulse: Heartbeat, availability: Availability) -> None:
        self.availability = availability
        self._pulse = pulse
        self._database = database
        self._tenure = tenure
        # Token → job, of all claims that this process makes or holds now.
        self._living: dict[str, Ticket] = {}

    @property
    def _namespace(self) -> str:
        return self._tenure.namespace

    async def _read(self, work: Callable[[Connection], T]) -> T:
        """Run one transaction that only reads."""
        return await self.availability.call(lambda: self._database.read(work))

    async def _write(self, work: Callable[[Connection], T], *, row: Ticket | None = None) -> T:
        """Run one write transaction; it may share one where it locks no row but this job's."""
        order = None if row is None else (row.tenant, storable(row.job_key))
        return await self.availability.call(lambda: self._database.write(work, order=order))

    async def _change(
        self, holding: Holding, change: Callable[[Connection], T], answer: Callable[[T], StoredOutcome]
    ) -> StoredOutcome:
        """Run a change and store its job's outcome in one transaction, unless the job is done already."""

        def work(connection: Connection) -> StoredOutcome:
            stored = self._lock(connection, holding.ticket)
            if stored is not None:
                return stored
            ending = Ending(outcome=answer(change(connection)), spent=Spent(), ttl_ms=holding.ttl_ms)
            return self._store_ending(connection, holding.ticket, token=holding.token, ending=ending)

        return await self._end(holding.token, work)

    async def _end(self, token: str, work: Callable[[Connection], T], *, row: Ticket | None = None) -> T:
        """Run the write that ends a claim.

        A refusal leaves the claim held, for another outcome to follow; and so does a store that is away, for the same
        outcome to be stored later: a delivery that came before it would run, and pay, once more. In all other cases
        nobody holds the row any more, and the next delivery of the job takes it over.
        """
        is_held = False
        try:
            return await self._write(work, row=row)
        except (RefusedError, StoreUnavailableError):
            is_held = True
            raise
        finally:
            if not is_held:
                self._living.pop(token, None)

    def _lock(self, connection: Connection, ticket: Ticket | None) -> StoredOutcome | None:
        return None if ticket is None else inbox.lock_outcome(connection, ticket, namespace=self._namespace)

    def _store_ending(
        self, connection: Connection, ticket: Ticket | None, *, token: str, ending: Ending
    ) -> StoredOutcome:
        if ticket is None:
            return ending.outcome
        return inbox.finish(connection, ticket, namespace=self._namespace, token=token, ending=ending)
