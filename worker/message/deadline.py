"""When a job is too late to be started, though its sender's clock may be wrong.

A sender that says when to give up (``x-dspex-deadline``, by its own clock) may say after how long as well
(``x-dspex-timeout``). Then a wrong clock can be told, at the first delivery, from a long wait in the queue:

============================================================  =========================================================
at the first delivery                                         the deadline
============================================================  =========================================================
it lies further ahead than the time-out is long               is the time-out from now on
the queue was known to be empty after it had passed, so the   is the time-out from now on
job was published when it was over already
all else                                                      stands
============================================================  =========================================================

So the jobs of a backlog whose callers have given up still expire, at no cost: as long as the worker has not seen the queue
empty, they may have waited in it. Copies carry the deadline that was found. A later delivery of a job that a dead worker
has begun, or its copy, counts from when the job was first claimed: one that had been too late by then would have no row.

See Also:
    docs/WIRE.md, "Deadlines and clocks".
"""

from __future__ import annotations

from dataclasses import replace

from worker.errors import ExpiredError
from worker.message.job import Job

CLOCK_TOLERANCE_MS = 1_000
"""Clocks that differ by less are as good as one; and so long may a publish have taken."""

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000


def set_deadline(job: Job, *, now_ms: int) -> Job:
    """Return a job as it is delivered first with the deadline that its sender meant.

    Args:
        job: The job; on a later delivery it is returned as it is.
        now_ms: The worker's clock.
    """
    if job.timeout_ms is None or job.deadline_ms is None or not job.delivery.is_first:
        return job
    meant_ms = now_ms + job.timeout_ms
    ahead_ms = job.deadline_ms - meant_ms
    if ahead_ms > CLOCK_TOLERANCE_MS:
        return _move(
            job, meant_ms, f"clock_skew: the sender's clock is {span(ahead_ms)} ahead of the worker's, or more"
        )
    if ahead_ms > 0:
        return _move(job, meant_ms)
    if _was_over_when_published(job, job.timeout_ms):
        return _move(job, meant_ms, f"clock_skew: the sender's clock is {span(-ahead_ms)} behind the worker's")
    return job


def resume_deadline(job: Job, *, began_ms: int) -> Job:
    """Return a job that an earlier delivery has begun with the deadline that was found then.

    Args:
        job: The job; a first delivery is returned as it is.
        began_ms: When it was first claimed.
    """
    if job.timeout_ms is None or job.deadline_ms is None or job.delivery.is_first:
        return job
    meant_ms = began_ms + job.timeout_ms
    was_moved = job.deadline_ms > meant_ms or job.deadline_ms + CLOCK_TOLERANCE_MS < began_ms
    return _move(job, meant_ms) if was_moved else job


def check_deadline(job: Job, *, now_ms: int) -> None:
    """Refuse to start a job whose caller has stopped to wait.

    Raises:
        ExpiredError: ``x-dspex-deadline`` has passed.
    """
    if job.deadline_ms is not None and now_ms > job.deadline_ms:
        raise expired(now_ms - job.deadline_ms, sent_ms_ago=_sent_ms_ago(job, now_ms=now_ms))


def expired(late_ms: int, *, sent_ms_ago: int | None = None) -> ExpiredError:
    """Return the error of a job that is so late, and was sent so long ago by its sender's own clock, if that is known."""
    sent = f"; by the sender's clock it was sent {span(sent_ms_ago)} earlier" if sent_ms_ago is not None else ""
    return ExpiredError(f"The job's deadline passed {span(late_ms)} before it was started, by the worker's clock{sent}")


def span(milliseconds: int) -> str:
    """Write a span of time with its two largest units: ``4 min 0 s``."""
    if milliseconds < _SECOND:
        return f"{milliseconds} ms"
    if milliseconds < _MINUTE:
        return f"{milliseconds / _SECOND:.1f} s"
    if milliseconds < _HOUR:
        return f"{milliseconds // _MINUTE} min {milliseconds % _MINUTE // _SECOND} s"
    if milliseconds < _DAY:
        return f"{milliseconds // _HOUR} h {milliseconds % _HOUR // _MINUTE} min"
    return f"{milliseconds // _DAY} d {milliseconds % _DAY // _HOUR} h"


def _was_over_when_published(job: Job, timeout_ms: int) -> bool:
    """Tell whether the queue was seen empty when the deadline had passed.

    A time stamp that is younger says that the sender's clock is right and its deadline an old one.
    """
    delivery, over_ms = job.delivery, job.deadline_ms or 0
    if delivery.sent_ms is not None:
        over_ms = max(over_ms, delivery.sent_ms + timeout_ms)
    return delivery.empty_ms is not None and over_ms + CLOCK_TOLERANCE_MS < delivery.empty_ms


def _sent_ms_ago(job: Job, *, now_ms: int) -> int | None:
    sent_ms = job.delivery.sent_ms
    return now_ms - sent_ms if sent_ms is not None and sent_ms <= now_ms else None


def _move(job: Job, deadline_ms: int, *warnings: str) -> Job:
    delivery = replace(job.delivery, trail=replace(job.delivery.trail, deadline_ms=deadline_ms))
    return replace(job, delivery=delivery, deadline_ms=deadline_ms, warnings=(*job.warnings, *warnings))
