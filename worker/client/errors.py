"""What a caller of the client may catch.

::

    ClientError
    ├─ ReplyError          a worker answered, with an error; ``code`` says which
    ├─ NoWorkerError       nobody consumes the queue, said at once
    └─ ReplyTimeoutError   no reply in time; also a ``TimeoutError``

A broker that cannot be reached when the client is opened is Python's own ``ConnectionError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.errors import Problem


class ClientError(Exception):
    """The root of the client's errors; raised itself where the broker refuses a request or a reply is unreadable."""


class NoWorkerError(ClientError):
    """The queue does not exist, or no worker consumes it. The job was not sent."""


class ReplyTimeoutError(ClientError, TimeoutError):
    """No reply came within the call's time-out.

    The job may still run: ask again under the same ``message_id`` and it is not paid for twice.

    Attributes:
        message_id: The idempotency key that the job was sent with.
    """

    def __init__(self, message: str, *, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class ReplyError(ClientError):
    """A worker answered that the job failed.

    Attributes:
        code: The wire code, e.g. ``invalid_inputs``.
        message: The ``error`` string of the reply.
        field: The signature field concerned, or None.
        problems: Every problem found, each with its place.
        is_recoverable: Whether the same job may succeed later without a change.
        retry_after_ms: When a retry makes sense, in milliseconds from now, or None.
        raw: The whole reply, as parsed from JSON.
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        detail = raw.get("error_detail") or {}
        self.raw = dict(raw)
        self.code = str(detail.get("code", "unknown"))
        self.message = str(raw.get("error", ""))
        self.field: str | None = detail.get("field")
        self.problems = _problems(detail.get("problems") or ())
        self.is_recoverable = bool(detail.get("recoverable", False))
        self.retry_after_ms: int | None = detail.get("retry_after")
        super().__init__(f"{self.code}: {self.message}")


def _problems(given: Sequence[Mapping[str, Any]]) -> tuple[Problem, ...]:
    return tuple(Problem(str(problem.get("path", "")), str(problem.get("problem", ""))) for problem in given)
