"""The store: programs, the inbox and worker heartbeats; SQLite embedded, PostgreSQL for many hosts, one code path.

=============================  =======================================================
module                         its one responsibility
=============================  =======================================================
`worker.store.store`           the one object that others use
`worker.store.calls`           its calls, each one transaction
`worker.store.reader`          programs, flags and workers for who is no worker
`worker.store.patience`        calls that wait for a store that is away
`worker.store.availability`    whether it is away, found out by one probe
`worker.store.claim`           the claim, one statement
`worker.store.inbox`           all else that moves a job's row, and the state table
`worker.store.stops`           what a process that was told to stop leaves behind
`worker.store.programs`        programs and their revisions
`worker.store.flags`           what holds for a whole deployment, now
`worker.store.cancellations`   jobs that must not run
`worker.store.heartbeat`       says that this worker lives, and how it is
`worker.store.workers`         who lives, and what each says of itself
`worker.store.database`        the two engines behind ``write`` and ``read``
`worker.store.schema`          tables, clock, version
`worker.store.records`         plain data in and out
=============================  =======================================================
"""

from __future__ import annotations

from worker.store.availability import Availability, StoreMisfitError, StoreUnavailableError
from worker.store.patience import briefly, steadily, uninterrupted
from worker.store.records import (
    Cancellation,
    Claim,
    CorruptRowError,
    Holding,
    NewProgram,
    ProgramRecord,
    Spent,
    StoredOutcome,
    Ticket,
    Verdict,
)
from worker.store.store import Store
from worker.store.workers import WorkerRecord, describe_workers

__all__ = [
    "Availability",
    "Cancellation",
    "Claim",
    "CorruptRowError",
    "Holding",
    "NewProgram",
    "ProgramRecord",
    "Spent",
    "Store",
    "StoreMisfitError",
    "StoreUnavailableError",
    "StoredOutcome",
    "Ticket",
    "Verdict",
    "WorkerRecord",
    "briefly",
    "describe_workers",
    "steadily",
    "uninterrupted",
]
