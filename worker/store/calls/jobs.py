"""Calls that move one job's row."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace

from worker.store import claim as claiming
from worker.store import inbox, stops
from worker.store.availability import StoreUnavailableError
from worker.store.calls.transactions import Calls
from worker.store.inbox import Ending, Run
from worker.store.records import Claim, Spent, StoredOutcome, Ticket, Verdict


class JobCalls(Calls):
    """Claim, finish, and what lies between; see `worker.store.inbox` for the states."""

    async def claim(self, ticket: Ticket) -> Claim:
        """Find out whose job this is and take it where it is free, in one transaction.

        The same transaction reads the program it names, the flags, and whether it was cancelled. A claim that is MINE
        ends with `finish`, `release`, `forget`, or a call that stores a change together with its outcome.

        Raises:
            CorruptRowError: The job's row cannot be read; it stays as it was.
        """
        token = uuid.uuid4().hex
        tenure = self._pulse.excuse(self._tenure)
        self._living[token] = ticket
        is_mine = False
        try:
            found = await self._write(
                lambda connection: claiming.claim(
                    connection, ticket, tenure=tenure, token=token, living_tokens=self._living
                ),
                row=ticket,
            )
            is_mine = found.verdict is Verdict.MINE
        finally:
            if not is_mine:
                self._living.pop(token, None)
        if is_mine and self._tenure.is_stopping and not tenure.is_stopping:
            await self._note_late(ticket)
        return found

    async def note_stop(self) -> None:
        """Note in the rows of all jobs in hand that this process was told to stop; claims from now on say so themselves.

        If the process is killed before such a job ends, that counts as a stop of the job and not as a crash.
        """
        self._tenure = replace(self._tenure, is_stopping=True)
        held = list(self._living.values())
        if held:
            await self._write(lambda connection: stops.note_stop(connection, held, tenure=self._tenure))

    async def _note_late(self, ticket: Ticket) -> None:
        """Note the stop for a job whose claim was under way when it came; a store that is away only costs the note."""
        with suppress(StoreUnavailableError):
            await self._write(lambda connection: stops.note_stop(connection, [ticket], tenure=self._tenure), row=ticket)

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
            row=ticket,
        )

    async def release(
        self, ticket: Ticket, *, token: str, spent: Spent, is_attempt: bool, pause_ms: int | None = None
    ) -> None:
        """Let a job wait: anybody may claim it. With a stale token, do nothing.

        Args:
            ticket: The ticket of the claim.
            token: The token of the claim.
            spent: What the run used up.
            is_attempt: Whether the run counts as an attempt because it reached the LM.
            pause_ms: For so many milliseconds nobody may claim this generation of the job; None for no pause.
        """
        run = Run(spent=spent, is_attempt=is_attempt, pause_ms=pause_ms)
        await self._end(
            token,
            lambda connection: inbox.release(connection, ticket, tenure=self._tenure, token=token, run=run),
            row=ticket,
        )

    async def forget(self, ticket: Ticket, *, token: str) -> None:
        """Delete the row of a job that was refused at no cost.

        Where the row has a history (a replay, or earlier attempts) it stays as it is, and the refusal must be stored
        with `finish`: the claim's ``attempts`` and the ticket's ``generation`` tell before.
        """
        await self._end(
            token,
            lambda connection: inbox.forget(connection, ticket, namespace=self._namespace, token=token),
            row=ticket,
        )

    async def mark_settled(self, ticket: Ticket) -> None:
        """Note that the stored settlement of this generation was carried out and confirmed."""
        await self._write(
            lambda connection: inbox.mark_settled(connection, ticket, namespace=self._namespace), row=ticket
        )

    async def get_result(self, job_key: str, *, tenant: str = "") -> StoredOutcome | None:
        """Return how a job ended; None if it was never seen, is not done, or its lifetime has passed."""
        ticket = Ticket(job_key=job_key, body_hash="", tenant=tenant)
        return await self._read(
            lambda connection: inbox.read_living_outcome(connection, ticket, namespace=self._namespace)
        )

    async def get_state(self, job_key: str, *, tenant: str = "") -> str | None:
        """Return ``running``, ``waiting`` or ``done``; None if it was never seen or its lifetime has passed."""
        ticket = Ticket(job_key=job_key, body_hash="", tenant=tenant)
        return await self._read(lambda connection: inbox.read_state(connection, ticket, namespace=self._namespace))
