"""Calls that steer a deployment: flags, jobs that must not run, and who its workers are."""

from __future__ import annotations

from collections.abc import Callable, Collection

from sqlalchemy import Connection

from worker.store import cancellations, flags, workers
from worker.store.calls.transactions import Calls
from worker.store.records import Cancellation, Holding, StoredOutcome, Ticket


class OrderCalls(Calls):
    """Set and read what is to hold now."""

    async def get_flags(self) -> dict[str, str]:
        """Return name → value of the flags that were set."""
        return await self._read(lambda connection: flags.read_flags(connection, namespace=self._namespace))

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

    async def list_workers(self) -> list[workers.WorkerRecord]:
        """Return the workers of the deployment, and those that were lost a short while ago."""
        lease_ms = self._pulse.excuse(self._tenure).lease_ms
        return await self._read(
            lambda connection: workers.read_workers(connection, namespace=self._namespace, lease_ms=lease_ms)
        )

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
        return await self._read(
            lambda connection: cancellations.find_cancelled(connection, jobs, namespace=self._namespace)
        )
