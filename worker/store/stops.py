"""What a process that was told to stop leaves behind in the rows of the jobs that it runs.

A platform that stops a worker (a deployment, a smaller scale) may kill it before its jobs have ended. Such a death says
nothing about the jobs, and the claim that takes one over counts it as a stop, not as a crash.

See Also:
    worker.store.claim: what counts them.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, case, tuple_, update

from worker.store.inbox import Tenure, storable
from worker.store.records import Ticket
from worker.store.schema import NowMs, jobs

_BATCH = 500
# Never earlier than the claim that it is about, also where it has waited for that one's commit.
_NOTE = (
    update(jobs)
    .where(
        jobs.c.namespace == bindparam("b_namespace"),
        tuple_(jobs.c.tenant, jobs.c.job_key).in_(bindparam("b_jobs", expanding=True)),
        jobs.c.owner == bindparam("b_owner"),
        jobs.c.state == "running",
    )
    .values(stop_noted_ms=case((jobs.c.claimed_ms > NowMs(), jobs.c.claimed_ms), else_=NowMs()))
)


def note_stop(connection: Connection, held: Collection[Ticket], *, tenure: Tenure) -> None:
    """Note that the process that runs these jobs was told to stop: if it dies now, that is no sign against them."""
    names = sorted({(ticket.tenant, storable(ticket.job_key)) for ticket in held})
    for start in range(0, len(names), _BATCH):
        values = {
            "b_namespace": tenure.namespace,
            "b_owner": tenure.owner,
            "b_jobs": names[start : start + _BATCH],
        }
        connection.execute(_NOTE, values)
