"""The store's calls, each one transaction, by what they are about.

==================================  ====================================================
module                              its one responsibility
==================================  ====================================================
`worker.store.calls.jobs`           one job's row
`worker.store.calls.programs`       programs
`worker.store.calls.orders`         flags and cancel marks
`worker.store.calls.transactions`   what all of them share
==================================  ====================================================
"""

from __future__ import annotations

from worker.store.calls.jobs import JobCalls
from worker.store.calls.orders import OrderCalls
from worker.store.calls.programs import MAX_LISTED_PROGRAMS, ProgramCalls

__all__ = ["MAX_LISTED_PROGRAMS", "JobCalls", "OrderCalls", "ProgramCalls"]
