"""Runs a job once: claim, run, store, and only then reply.

One row a job decides who runs it, wherever its deliveries turn up. What cost money is stored before it is published,
so a crash after that costs nothing again; what cost nothing is forgotten, so a corrected job may come back under the
same id. A job without any id has no row: it is plain at-least-once, and its replies say so.

======================= ==========================================================================
module                  its one responsibility
======================= ==========================================================================
`worker.inbox.inbox`    whose a job is, and what follows: run it, join its run, repeat its reply
`worker.inbox.endings`  how a run ends that brought no success
`worker.inbox.outcomes` what the consumer is told: replies and settlements
`worker.inbox.rows`     a job's row in the store, from claim to outcome
`worker.inbox.joins`    deliveries of a job that runs in this very process
======================= ==========================================================================

See Also:
    docs/RELIABILITY.md: the states of a row.
"""

from __future__ import annotations

from worker.inbox.endings import report_bug
from worker.inbox.inbox import Inbox, Run

__all__ = ["Inbox", "Run", "report_bug"]
