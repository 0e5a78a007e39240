"""What the store's tests share: values, and a hand in the tables for what only time or death would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from sqlalchemy import Connection, select, text, update

from worker.store import Spent, Store, StoredOutcome, Ticket
from worker.store.schema import NowMs, jobs, workers

NAMESPACE = "test"
TTL_MS = 60_000


class OpenStore(Protocol):
    """Opens one more store on the test's database, and closes it at the end of the test."""

    def __call__(self, *, worker_id: str = "w", lease_seconds: float = 10.0, version: str = "") -> Awaitable[Store]: ...


class Hand:
    """Reads and rewrites rows behind the stores' back."""

    def __init__(self, run: Callable[[Callable[[Connection], Any]], Awaitable[Any]]) -> None:
        self._run = run

    async def job(self, key: str) -> dict[str, Any] | None:
        """Return a job's row, column → value, or None."""
        statement = select(jobs).where(jobs.c.job_key == key)
        row = await self._run(lambda connection: connection.execute(statement).mappings().one_or_none())
        return None if row is None else dict(row)

    async def workers(self) -> list[str]:
        """Return the ids in the workers table."""
        rows = await self._run(lambda connection: connection.execute(select(workers.c.worker_id)).all())
        return sorted(row[0] for row in rows)

    async def seen_ms(self) -> int:
        """Return the last heartbeat of the only worker."""
        seen: int = await self._run(lambda connection: connection.execute(select(workers.c.seen_ms)).scalar_one())
        return seen

    async def copy_job(self, key: str, *, times: int) -> None:
        """Add rows like this one, under other keys."""
        row = await self.job(key)
        copies = [{**(row or {}), "job_key": f"{key} {number}"} for number in range(times)]
        await self._run(lambda connection: connection.execute(jobs.insert(), copies))

    async def age(self, key: str) -> None:
        """Make a job's row expire."""
        await self._run(lambda c: c.execute(update(jobs).where(jobs.c.job_key == key).values(expires_ms=NowMs() - 1)))

    async def count(self, statement: str) -> int:
        """Return the one number that a statement asks for."""
        number: int = await self._run(lambda connection: connection.execute(text(statement)).scalar_one())
        return number

    async def execute(self, statement: str) -> None:
        """Run a statement on the tables."""
        await self._run(lambda connection: connection.execute(text(statement)))

    async def add_worker(self, name: str, *, seen_ms_ago: int) -> None:
        """Register a worker whose last heartbeat was so long ago."""
        row = {
            "namespace": NAMESPACE,
            "worker_id": name,
            "host": "h",
            "started_ms": 1,
            "seen_ms": NowMs() - seen_ms_ago,
        }
        await self._run(lambda connection: connection.execute(workers.insert().values(row)))

    async def give_to_ghost(self, key: str, *, seen_ms_ago: int) -> None:
        """Make another process the owner of a running job, whose last heartbeat was so long ago."""
        await self.add_worker("ghost", seen_ms_ago=seen_ms_ago)
        changed = {"owner": "ghost", "claim_token": "ghosts", "claimed_ms": NowMs() - 50_000}
        await self._run(lambda c: c.execute(update(jobs).where(jobs.c.job_key == key).values(changed)))


def ticket(key: str = "job", **changes: Any) -> Ticket:
    """Make a ticket."""
    return Ticket(**{"job_key": key, "body_hash": "hash", **changes})


def success(reply: bytes = b"result") -> StoredOutcome:
    """Make a success."""
    return StoredOutcome(is_success=True, code=None, reply=reply, settlement="ack")


def failure(reply: bytes = b"error") -> StoredOutcome:
    """Make an error that was paid for."""
    return StoredOutcome(is_success=False, code="timeout", reply=reply, settlement="dead_letter")


async def finish(
    store: Store, of: Ticket, *, token: str, outcome: StoredOutcome, spent: Spent | None = None
) -> StoredOutcome:
    """Finish with the test's lifetime."""
    return await store.finish(of, token=token, outcome=outcome, spent=spent or Spent(lm_calls=1), ttl_ms=TTL_MS)
