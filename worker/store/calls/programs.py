"""Calls about programs; those that change one store its job's outcome in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from worker.errors import ProgramNotFoundError
from worker.store import programs
from worker.store.calls.transactions import Calls
from worker.store.inbox import Ending
from worker.store.records import Holding, NewProgram, ProgramRecord, Spent, StoredOutcome, Ticket

MAX_LISTED_PROGRAMS = 1_000
"""Programs in one answer, unless the caller says otherwise."""


class ProgramCalls(Calls):
    """Create, look up, count and delete."""

    async def get_program(self, program_id: str, *, tenant: str = "") -> ProgramRecord | None:
        """Return a program, or None."""
        return await self._read(
            lambda connection: programs.read_program(connection, program_id, namespace=self._namespace, tenant=tenant)
        )

    async def list_programs(
        self,
        *,
        tenant: str = "",
        limit: int = MAX_LISTED_PROGRAMS,
        offset: int = 0,
        most_characters: int | None = None,
    ) -> list[ProgramRecord]:
        """Return a tenant's programs, the oldest first: at most ``limit``, without the first ``offset``.

        With ``most_characters`` they end with the one whose definition goes over that many, all together.
        """
        page = programs.Page(tenant=tenant, limit=limit, offset=offset, most_characters=most_characters)
        return await self._read(lambda connection: programs.list_programs(connection, page, namespace=self._namespace))

    async def count_programs(self, *, tenant: str = "") -> int:
        """Return how many programs a tenant has."""
        return await self._read(
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

    async def delete_program(self, program_id: str, *, holding: Holding, outcome: StoredOutcome) -> StoredOutcome:
        """Delete a program of a tenant and store the job's outcome in one transaction.

        Returns:
            What is stored now; where the job is done already, nothing changes.

        Raises:
            ProgramNotFoundError: There is none; nothing was stored, and the claim is still held.
        """

        def change(connection: Connection) -> None:
            if not programs.remove_program(connection, program_id, namespace=self._namespace, tenant=holding.tenant):
                raise ProgramNotFoundError(program_id)

        return await self._change(holding, change, lambda _: outcome)

    async def count_kinds(self, *, tenant: str = "") -> dict[str, int]:
        """Return kind → number of a tenant's programs."""
        return await self._read(
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

    async def add_executions(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add runs, (tenant, program id) → runs since the last call, and note that they were last executed now."""
        await self._write(lambda connection: programs.add_executions(connection, counts, namespace=self._namespace))

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
