"""The store: programs, the inbox and worker heartbeats; SQLite embedded, PostgreSQL for many hosts, one code path.

========================  =======================================================
module                    its one responsibility
========================  =======================================================
`worker.store.store`      the calls, each one transaction
`worker.store.claim`      the claim, one statement
`worker.store.inbox`      all else that moves a job's row, and the state table
`worker.store.programs`   programs and their revisions
`worker.store.heartbeat`  who lives
`worker.store.database`   the two engines behind ``write`` and ``read``
`worker.store.schema`     tables, clock, version
`worker.store.records`    plain data in and out
========================  =======================================================
"""

from __future__ import annotations

from worker.store.records import (
    Claim,
    NewProgram,
    ProgramRecord,
    Spent,
    StoredOutcome,
    StoreUnavailableError,
    Ticket,
    Verdict,
)
from worker.store.store import Store

__all__ = [
    "Claim",
    "NewProgram",
    "ProgramRecord",
    "Spent",
    "Store",
    "StoreUnavailableError",
    "StoredOutcome",
    "Ticket",
    "Verdict",
]
