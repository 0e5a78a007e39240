"""Cancel marks: jobs that must not start, and must stop where they run.

A mark outlives its job, for a message may be delivered again long after it was cancelled. It never undoes what is done:
the job's row is locked and looked at first, so a job whose outcome is stored is too late to cancel.

The functions take a connection inside a transaction and are meant for `worker.store.store.Store` alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Connection, Text, any_, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from worker.store.inbox import SWEEP_BATCH, end_pause, lock_outcome, storable
from worker.store.records import Cancellation, Ticket
from worker.store.schema import NowMs, cancellations

IS_MARKED = (
    cancellations.c.namespace == bindparam("b_namespace"),
    cancellations.c.tenant == bindparam("b_tenant"),
    cancellations.c.job_key == bindparam("b_job_key"),
    cancellations.c.expires_ms > NowMs(),
)
"""The living mark of one job; a claim reads it together with the flags."""

_KEY = (cancellations.c.namespace, cancellations.c.tenant, cancellations.c.job_key)


def _make_mark(insert: Any) -> Any:
    """Build the insert with one dialect's ``insert``; it returns a row unless a living mark is there."""
    new = {
        "requested_ms": NowMs(),
        "expires_ms": NowMs() + bindparam("ttl_ms", type_=BigInteger),
    }
    return (
        insert(cancellations)
        .values(namespace=bindparam("namespace"), tenant=bindparam("tenant"), job_key=bindparam("job_key"), **new)
        .on_conflict_do_update(index_elements=list(_KEY), set_=new, where=cancellations.c.expires_ms <= NowMs())
        .returning(cancellations.c.job_key)
    )


_MARK = {"sqlite": _make_mark(sqlite.insert), "postgresql": _make_mark(postgresql.insert)}
_LIVING = select(cancellations.c.tenant, cancellations.c.job_key).where(
    cancellations.c.namespace == bindparam("b_namespace"), cancellations.c.expires_ms > NowMs()
)
# One parameter for any number of keys: with one each, every number of them would be another statement.
_FIND = {
    "sqlite": _LIVING.where(
        cancellations.c.job_key.in_(
            select(func.json_each(bindparam("b_keys", type_=Text)).table_valued("value").c.value)
        )
    ),
    "postgresql": _LIVING.where(cancellations.c.job_key == any_(bindparam("b_keys", type_=ARRAY(Text)))),
}
_SWEEP = delete(cancellations).where(
    tuple_(*_KEY).in_(
        select(*_KEY)
        .where(cancellations.c.namespace == bindparam("b_namespace"), cancellations.c.expires_ms <= NowMs())
        .limit(SWEEP_BATCH)
        .with_for_update(skip_locked=True)
    )
)


def cancel(connection: Connection, ticket: Ticket, *, namespace: str, ttl_ms: int) -> Cancellation:
    """Mark a job as cancelled, unless it is done, and say what became of it.

    Args:
        connection: A connection in a write transaction.
        ticket: Names the job: tenant and key; a job that was never seen may be still in its queue.
        namespace: The deployment.
        ttl_ms: Lifetime of the mark, in milliseconds.
    """
    if lock_outcome(connection, ticket, namespace=namespace) is not None:
        return Cancellation.TOO_LATE
    key = {"namespace": namespace, "tenant": ticket.tenant, "job_key": storable(ticket.job_key)}
    marked = connection.execute(_MARK[connection.dialect.name], key | {"ttl_ms": ttl_ms}).one_or_none()
    # Its next delivery only says that it was cancelled: that need not wait for the LM.
    end_pause(connection, ticket, namespace=namespace)
    return Cancellation.ALREADY_CANCELLED if marked is None else Cancellation.CANCELLED


def find_cancelled(
    connection: Connection, jobs: Collection[tuple[str, str]], *, namespace: str
) -> set[tuple[str, str]]:
    """Return which of these jobs have a mark; a job is its tenant and its key."""
    keys = sorted({storable(key) for _, key in jobs})
    is_sqlite = connection.dialect.name == "sqlite"
    values = {"b_namespace": namespace, "b_keys": json.dumps(keys) if is_sqlite else keys}
    return {(row.tenant, row.job_key) for row in connection.execute(_FIND[connection.dialect.name], values)} & set(jobs)


def sweep_cancellations(connection: Connection, *, namespace: str) -> int:
    """Delete up to `SWEEP_BATCH` marks whose time has passed and return how many they were."""
    return connection.execute(_SWEEP, {"b_namespace": namespace}).rowcount
