"""The statuses that workers answer with about another job, in the order of docs/WIRE.md.

They stand here once, for the code that answers, the contract that is published, and the clients that must know each.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

ResultStatus = Literal["done", "running", "waiting", "cancelled", "unknown"]
"""How far a job is, as ``get_result`` says it."""

CancelStatus = Literal["cancelled", "already_cancelled", "too_late"]
"""What became of the wish to cancel a job."""

RESULT_STATUSES: Final[tuple[ResultStatus, ...]] = get_args(ResultStatus)
CANCEL_STATUSES: Final[tuple[CancelStatus, ...]] = get_args(CancelStatus)
