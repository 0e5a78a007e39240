"""The store as the rest of the worker sees it: one call, one transaction.

All write transactions go through `Store._write`, so that writes of one turn of the event loop can later share one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import Connection

from worker.errors import ProgramNotFoundError, RefusedError
from worker.store import cancellations, flags, heartbeat, inbox, programs
from worker.store import claim as claiming
from worker.store.database import Database, connect
from worker.store.heartbeat import Heartbeat
from worker.store.inbox import Ending, Run, Tenure
from worker.store.records import (
    Cancellation,
    Claim,
    Holding,
    NewProgram,
    ProgramRecord,
    Spent,
    StoredOutcome,
    StoreUnavailableError,
    Ticket,
    Verdict,
)
from worker.store.schema import prepare_schema

T = TypeVar("T")

MAX_ROW_AGE_MS = (7_200 + 86_400) * 1000
"""How long a row that is not done is kept by default: the largest job age and the lifetime of a result."""


class Store:
    """Programs, the inbox and this process's heartbeat, in one database.

    Every method may raise `StoreUnavailableError`, and every method may then be called again with the same arguments:
    a claim that was stored unseen is found, and an outcome that was stored unseen is returned.
    """

    def __init__(self, database: Database, *, tenure: Tenure, pulse: Heartbeat) -> None:
        """Use `Store.open`."""
        self._database = database
        self._tenure = tenure
        self._pulse = pulse
        self._living_tokens: set[str] = set()
        self._is_closed = False

    @classmethod
    async def open(
        cls, url: str, *, namespace: str, worker_id: str, lease_seconds: float, max_row_age_ms: int = MAX_ROW_AGE_MS
    ) -> Store:
        """Connect, create missing tables, register this worker and start its heartbeat.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user@host/database``, with or without a driver's name.
            namespace: The deployment; deployments in one database never meet.
            worker_id: Shown in the ``workers`` table, followed by letters that make it unique: a restarted worker may
                use its id again and still finds the rows of its former life without a living owner.
            lease_seconds: After how many seconds without a heartbeat a worker's running jobs may be taken over.
            max_row_age_ms: How long a row that is not done is kept after it was last touched.

        Raises:
            ValueError: The URL is none that the store understands.
            StoreUnavailableError: The database cannot be reached or used, or was made by another version.
        """
        owner = f"{worker_id}/{uuid.uuid4().hex[:8]}"
        tenure = Tenure(namespace=namespace, owner=owner, lease_ms=int(lease_seconds * 1000), row_age_ms=max_row_age_ms)
        database = connect(url)
        try:
            await database.write(prepare_schema)
            await database.write(lambda connection: heartbeat.beat(connection, tenure=tenure))
        except BaseException:
            await database.close()
            raise
        pulse = Heartbeat(connect(url, lock_seconds=heartbeat.LOCK_SECONDS), tenure=tenure)
        pulse.start()
        return cls(database, tenure=tenure, pulse=pulse)

    async def close(self) -> None:
        """Stop the heartbeat and remove the worker's row, so that its running jobs can be taken over at once.

        A store that is down only costs the others the wait for the lease. Closing twice is closing once.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await self._pulse.stop()
        with suppress(StoreUnavailableError):
            await self._write(lambda connection: heartbeat.leave(connection, tenure=self._tenure))
        await self._database.close()

    async def ping(self) -> None:
        """Find out whether the store takes writes, by one more heartbeat.

        Raises:
            StoreUnavailableError: It does not.
        """
        await self._write(lambda connection: heartbeat.beat(connection, tenure=self._tenure))

    async def claim(self, ticket: Ticket) -> Claim:
        """Find out whose job this is and take it where it is free, in one transaction.

        The same transaction reads the program it names, the flags, and whether it was cancelled. A claim that is MINE
        ends with `finish`, `release`, `forget`, or a call that stores a change together with its outcome.
        """
        token = uuid.uuid4().hex
        self._living_tokens.add(token)
        is_mine = False
        try:
            found = await self._write(
                lambda connection: claiming.claim(
                    connection, ticket, tenure=self._tenure, token=token, living_tokens=self._living_tokens
                )
            )
            is_mine = found.verdict is Verdict.MINE
        finally:
            if not is_mine:
                self._living_tokens.discard(token)
        return found

    async def finish(
        self, ticket: Ticket, *, token: str, outcome: StoredOutcome, spent: Spent, ttl_ms: int
    ) -> StoredOutcome:
        """Store how a job ended, and return what is stored now: this outcome, or the first success of another run.

        A success needs no current token, for it was paid for. An error does; where its token is stale and nothing is
        stored, the outcome comes back unchanged and nothing is stored.

        Args:
            ticket: The ticket of the claim.
            token: The token of the claim.
            outcome: How it ended.
            spent: What the last run used up.
            ttl_ms: How long to keep the outcome, in milliseconds.
        """
        ending = Ending(outcome=outcome, spent=spent, ttl_ms=ttl_ms)
        return await self._end(
            token,
            lambda connection: inbox.finish(connection, ticket, namespace=self._namespace, token=token, ending=ending),
        )

    async def release(self, ticket: Ticket, *, token: str, spent: Spent, is_attempt: bool) -> None:
        """Let a job wait: anybody may claim it. With a stale token, do nothing."""
        run = Run(spent=spent, is_attempt=is_attempt)
        await self._end(
            token, lambda connection: inbox.release(connection, ticket, tenure=self._tenure, token=token, run=run)
        )

    async def forget(self, ticket: Ticket, *, token: str) -> None:
        """Delete the row of a job that was refused at no cost.

        Where the row has a history (a replay, or earlier attempts) it stays as it is, and the refusal must be stored
        with `finish`: the claim's ``attempts`` and the ticket's ``generation`` tell before.
        """
        await self._end(
            token, lambda connection: inbox.forget(connection, ticket, namespace=self._namespace, token=token)
        )

    async def mark_settled(self, ticket: Ticket) -> None:
        """Note that the stored settlement of this generation was carried out and confirmed."""
        await self._write(lambda connection: inbox.mark_settled(connection, ticket, namespace=self._namespace))

    async def get_result(self, job_key: str, *, tenant: str = "") -> StoredOutcome | None:
        """Return how a job ended; None if it was never seen, is not done, or its lifetime has passed."""
        ticket = Ticket(job_key=job_key, body_hash="", tenant=tenant)
        return await self._database.read(
            lambda connection: inbox.read_living_outcome(connection, ticket, namespace=self._namespace)
        )

    async def get_program(self, program_id: str, *, tenant: str = "") -> ProgramRecord | None:
        """Return a program, or None."""
        return await self._database.read(
            lambda connection: programs.read_program(connection, program_id, namespace=self._namespace, tenant=tenant)
        )

    async def list_programs(self, *, tenant: str = "") -> list[ProgramRecord]:
        """Return a tenant's programs, the oldest first."""
        return await self._database.read(
            lambda connection: programs.list_programs(connection, namespace=self._namespace, tenant=tenant)
        )

    async def count_programs(self, *, tenant: str = "") -> int:
        """Return how many programs a tenant has."""
        return await self._database.read(
            lambda connection: programs.count_programs(connection, namespace=self._namespace, tenant=tenant)
        )

    async def create_program(
        self,
        new: NewProgram,
        *,
        ticket: Ticket | None,
        token: str,
        answer: Callable[[ProgramRecord], StoredOutcome],
    ) -> tuple[ProgramRecord, StoredOutcome]:
        """Store a program and its job's outcome in one transaction.

        The same fingerprint under the same id is the program that exists; another one becomes a new version with
        ``new.replace``. Where the job is done already, nothing changes and the stored outcome comes back, with the
        program as it is now; if it has been deleted since, its record has version 0.

        Args:
            new: The program.
            ticket: The ticket of the creating job's claim, or None for a job without an inbox row.
            token: The token of the claim.
            answer: Makes the outcome from the stored record. It is pure and quick: it runs inside the transaction, on
                SQLite in another thread.

        Raises:
            ProgramExistsError: Another definition has the id; nothing was stored, and the claim is still held.
        """

        def work(connection: Connection) -> tuple[ProgramRecord, StoredOutcome]:
            stored = self._lock(connection, ticket)
            if stored is not None:
                return self._read_or_describe(connection, new), stored
            record = programs.put_program(connection, new, namespace=self._namespace)
            ending = Ending(outcome=answer(record), spent=Spent(), ttl_ms=new.ttl_ms)
            return record, self._store_ending(connection, ticket, token=token, ending=ending)

        return await self._end(token, work)

    async def delete_program(
        self, program_id: str, *, ticket: Ticket | None, token: str, outcome: StoredOutcome, ttl_ms: int
    ) -> bool:
        """Delete a program and store its job's outcome in one transaction.

        Returns:
            False if there was no such program: then nothing was stored, and the claim is still held. True also where
            this job is done already; `get_result` has its reply.
        """
        tenant = ticket.tenant if ticket is not None else ""

        def work(connection: Connection) -> None:
            if self._lock(connection, ticket) is not None:
                return
            if not programs.remove_program(connection, program_id, namespace=self._namespace, tenant=tenant):
                raise ProgramNotFoundError(program_id)
            ending = Ending(outcome=outcome, spent=Spent(), ttl_ms=ttl_ms)
            self._store_ending(connection, ticket, token=token, ending=ending)

        try:
            await self._end(token, work)
        except ProgramNotFoundError:
            return False
        return True

    async def count_kinds(self, *, tenant: str = "") -> dict[str, int]:
        """Return kind → number of a tenant's programs."""
        return await self._database.read(
            lambda connection: programs.count_kinds(connection, namespace=self._namespace, tenant=tenant)
        )

    async def delete_programs(self, *, holding: Holding, answer: Callable[[int], StoredOutcome]) -> StoredOutcome:
        """Delete all programs of a tenant and store the job's outcome in one transaction.

        Args:
            holding: The claim that this ends.
            answer: Makes the outcome from the number of programs; pure and quick, as in `create_program`.

        Returns:
            What is stored now; where the job is done already, nothing changes.
        """
        return await self._change(
            holding,
            lambda connection: programs.remove_all_programs(
                connection, namespace=self._namespace, tenant=holding.tenant
            ),
            answer,
        )

    async def get_flags(self) -> dict[str, str]:
        """Return name → value of the flags that were set."""
        return await self._database.read(lambda connection: flags.read_flags(connection, namespace=self._namespace))

    async def set_flag(
        self, name: str, value: str, *, holding: Holding, answer: Callable[[dict[str, str]], StoredOutcome]
    ) -> StoredOutcome:
        """Set a flag and store the job's outcome in one transaction.

        Args:
            name: The flag; what it means is not the store's business.
            value: Its value.
            holding: The claim that this ends.
            answer: Makes the outcome from the flags as they were set before; pure and quick, as in `create_program`.

        Returns:
            What is stored now; where the job is done already, nothing changes.
        """

        def change(connection: Connection) -> dict[str, str]:
            before = flags.read_flags(connection, namespace=self._namespace)
            flags.write_flag(connection, name, value, namespace=self._namespace)
            return before

        return await self._change(holding, change, answer)

    async def cancel(
        self, job_key: str, *, holding: Holding, answer: Callable[[Cancellation], StoredOutcome]
    ) -> StoredOutcome:
        """Mark another job of the same tenant as cancelled and store this job's outcome in one transaction.

        Args:
            job_key: The job to cancel; it need not have been seen yet.
            holding: The claim that this ends; its lifetime is that of the mark, too.
            answer: Makes the outcome from what became of the wish; pure and quick, as in `create_program`.

        Returns:
            What is stored now; where this job is done already, nothing changes.
        """
        target = Ticket(job_key=job_key, body_hash="", tenant=holding.tenant)
        return await self._change(
            holding,
            lambda connection: cancellations.cancel(
                connection, target, namespace=self._namespace, ttl_ms=holding.ttl_ms
            ),
            answer,
        )

    async def find_cancelled(self, jobs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return which of these jobs have a cancel mark; a job is its tenant and its key."""
        return await self._database.read(
            lambda connection: cancellations.find_cancelled(connection, jobs, namespace=self._namespace)
        )

    async def add_executions(self, counts: Mapping[str, int], *, tenant: str = "") -> None:
        """Add runs, program id → runs since the last call, and note that they were last executed now."""
        await self._write(
            lambda connection: programs.add_executions(connection, counts, namespace=self._namespace, tenant=tenant)
        )

    async def sweep(self) -> int:
        """Delete what is past its time, in short transactions, and return the number of rows.

        These are outcomes and cancel marks past their lifetime, rows that are not done and were not touched for
        ``max_row_age_ms``, and workers that have long been dead.
        """
        swept = await self._write(lambda connection: heartbeat.sweep_workers(connection, tenure=self._tenure))
        swept += await self._sweep(inbox.sweep)
        return swept + await self._sweep(cancellations.sweep_cancellations)

    async def _sweep(self, sweep: Callable[..., int]) -> int:
        swept = 0
        while True:
            batch = await self._write(lambda connection: sweep(connection, namespace=self._namespace))
            swept += batch
            if batch < inbox.SWEEP_BATCH:
                return swept

    @property
    def _namespace(self) -> str:
        return self._tenure.namespace

    async def _write(self, work: Callable[[Connection], T]) -> T:
        """Run one write transaction. The one place that all of them pass."""
        return await self._database.write(work)

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

    async def _end(self, token: str, work: Callable[[Connection], T]) -> T:
        """Run the write that ends a claim.

        A refusal leaves the claim held, for another outcome to follow. If the write fails, nobody holds the row any
        more: the next delivery of the job takes it over.
        """
        is_held = False
        try:
            return await self._write(work)
        except RefusedError:
            is_held = True
            raise
        finally:
            if not is_held:
                self._living_tokens.discard(token)

    def _lock(self, connection: Connection, ticket: Ticket | None) -> StoredOutcome | None:
        return None if ticket is None else inbox.lock_outcome(connection, ticket, namespace=self._namespace)

    def _store_ending(
        self, connection: Connection, ticket: Ticket | None, *, token: str, ending: Ending
    ) -> StoredOutcome:
        if ticket is None:
            return ending.outcome
        return inbox.finish(connection, ticket, namespace=self._namespace, token=token, ending=ending)

    def _read_or_describe(self, connection: Connection, new: NewProgram) -> ProgramRecord:
        found = programs.read_program(connection, new.program_id, namespace=self._namespace, tenant=new.tenant)
        return found or ProgramRecord(
            program_id=new.program_id,
            revision=str(uuid.uuid4()),
            version=0,
            fingerprint=new.fingerprint,
            definition=new.definition,
            created_ms=0,
            executions=0,
            last_executed_ms=None,
        )
