"""Whether anybody waits for a job that is about to cost money.

The broker knows it for direct reply-to at once and surely, for such an address lives as long as its caller's channel. Of
other queues a caller that is away for a moment may fetch its replies later, so they are asked after only on demand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from worker.errors import CallerGoneError, InvalidRequestError
from worker.message import DIRECT_REPLY_TO, Job

Choice = Literal["skip", "run"] | None
"""``DSPEX_WHEN_CALLER_GONE``; None is ``skip`` for direct reply-to, and ``run`` for all else."""

IsGone = Callable[[str], Awaitable[bool]]
"""Tells whether the queue of a ``reply_to`` is gone; where that cannot be found out, it is not."""


async def nobody_knows(_: str) -> bool:
    """Take every caller for alive."""
    return False


def check_answerable(job: Job) -> None:
    """Refuse to pay for a result that nobody could ever see.

    Raises:
        InvalidRequestError: The job says neither where its reply goes nor by which name its result can be asked for.
    """
    if job.delivery.reply_to is None and job.delivery.message_id is None:
        raise InvalidRequestError("A job without reply_to needs a message_id, or nobody could see its result")


async def check_caller(job: Job, *, choice: Choice, is_gone: IsGone) -> None:
    """Refuse to pay for a result that nobody waits for; a replay is the operator's wish and runs anyway.

    Raises:
        CallerGoneError: The reply queue is gone.
    """
    reply_to = job.delivery.reply_to
    if reply_to is None or job.delivery.trail.generation > 0 or not _is_asked_after(reply_to, choice=choice):
        return
    if await is_gone(reply_to):
        raise CallerGoneError("The reply queue was gone before the job started")


def _is_asked_after(reply_to: str, *, choice: Choice) -> bool:
    return choice == "skip" or (choice is None and reply_to.startswith(DIRECT_REPLY_TO))
