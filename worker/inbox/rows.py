"""A job's row in the store, from claim to outcome; a job without ids has none, and every step is then free.

What is not paid for yet waits for a store that is down only so long, then goes back to the broker
(`StoreUnavailableError`). What was paid for waits until it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from worker.message import Job
from worker.settings import Settings
from worker.standing import Standing, ticket_of
from worker.store import Claim, Store, StoredOutcome, StoreUnavailableError, briefly, steadily, uninterrupted
from worker.telemetry import CLAIMS

log = structlog.get_logger()


class Rows:
    """The rows of this worker's jobs.

    Args:
        store: Where they are.
        settings: How long a job waits for a store that is down.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._hold_seconds = settings.store_hold_seconds

    async def claim(self, job: Job, key: str) -> Claim:
        """Find out whose the job is, and take it where it is free.

        Raises:
            StoreUnavailableError: The store is down for long.
        """
        ticket = ticket_of(job, key)
        claim = await briefly(lambda: self._store.claim(ticket), hold_seconds=self._hold_seconds)
        CLAIMS.labels(claim.verdict.value).inc()
        return claim

    async def get_flags(self) -> Mapping[str, str]:
        """Return the flags as set, for a job without a claim that would tell them.

        Raises:
            StoreUnavailableError: The store is down for long.
        """
        return await briefly(self._store.get_flags, hold_seconds=self._hold_seconds)

    async def finish(self, standing: Standing, outcome: StoredOutcome, *, ttl_ms: int) -> StoredOutcome:
        """Store an outcome, where there is a row, and return what is stored now."""
        ticket = standing.ticket
        if ticket is None:
            return outcome
        spent = standing.spent
        storing = steadily(
            lambda: self._store.finish(ticket, token=standing.token, outcome=outcome, spent=spent, ttl_ms=ttl_ms)
        )
        return await uninterrupted(storing)

    async def release(self, standing: Standing, *, is_attempt: bool, pause_ms: int | None = None) -> None:
        """Let the job wait: whoever meets it next may claim it, or who meets it after so many milliseconds."""
        ticket = standing.ticket
        if ticket is None:
            return
        spent = standing.spent
        releasing = steadily(
            lambda: self._store.release(
                ticket, token=standing.token, spent=spent, is_attempt=is_attempt, pause_ms=pause_ms
            )
        )
        await uninterrupted(releasing)

    async def forget(self, standing: Standing) -> None:
        """Delete the row of a job that cost nothing."""
        ticket = standing.ticket
        if ticket is not None:
            await uninterrupted(steadily(lambda: self._store.forget(ticket, token=standing.token)))

    async def give_back(self, standing: Standing) -> None:
        """Free the claim of a job that the drain cut off; a store that is down leaves it to the lease."""
        if standing.ticket is None:
            return
        try:
            await uninterrupted(
                self._store.release(standing.ticket, token=standing.token, spent=standing.spent, is_attempt=False)
            )
        except StoreUnavailableError as error:
            log.warning("inbox.not_released", reason=str(error))

    async def get_result(self, standing: Standing) -> StoredOutcome | None:
        """Return what is stored for the job, by whichever run."""
        ticket = standing.ticket
        if ticket is None:
            return None
        return await steadily(lambda: self._store.get_result(ticket.job_key, tenant=ticket.tenant))

    async def mark_settled(self, job: Job, *, generation: int) -> None:
        """Note that the settlement stored for this generation of the job was carried out."""
        if job.key is not None:
            ticket = replace(ticket_of(job, job.key), generation=generation)
            await steadily(lambda: self._store.mark_settled(ticket))
