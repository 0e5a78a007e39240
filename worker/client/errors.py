"""What a caller of the client may catch.

::

    ClientError
    ├─ ArgumentError       an argument cannot be sent; also a ``TypeError`` and a ``ValueError``
    ├─ ReplyError          a worker answered, with an error; ``code`` says which
    ├─ NoWorkerError       no worker consumes the queue
    └─ ReplyTimeoutError   no reply in time; also a ``TimeoutError``

A broker that cannot be reached when the client is opened is Python's own ``ConnectionError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from worker.errors import Problem


class ClientError(Exception):
    """The root of the client's errors; raised itself where the broker refuses a request or a reply is unreadable."""


class ArgumentError(ClientError, TypeError, ValueError):
    """An argument has the wrong type, or holds a value that JSON cannot hold. Nothing was sent.

    Attributes:
        field: The input field concerned, else the argument's name.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class NoWorkerError(ClientError):
    """The queue does not exist, or no worker consumes it. The job was not sent."""


class ReplyTimeoutError(ClientError, TimeoutError):
    """No reply came within the call's time-out; or, for ``enqueue``, no confirm of the broker.

    The job may still run: send it again under the same ``message_id`` and it is not paid for twice.

    Attributes:
        message_id: The idempotency key that the job was sent with.
    """

    def __init__(self, message: str, *, message_id: str) -> None:
        super().__init__(message)
        self.message_id = message_id


class ReplyError(ClientError):
    """A worker answered that the job failed.

    To run a job again that ended so, send it under the same id and name the run that failed:
    ``execute(…, message_id=error.message_id, rerun_of=error.generation)``.

    Attributes:
        code: The wire code, e.g. ``invalid_inputs``.
        message: The ``error`` string of the reply.
        field: The signature field concerned, or None.
        problems: Every problem found, each with its place.
        is_recoverable: Whether the same job may succeed later without a change.
        retry_after_ms: When a retry makes sense, in milliseconds from now, or None.
        message_id: The job's idempotency key.
        generation: Which run of the job failed: 0 is the first; None where the worker does not say.
        stored_ms: When the error was stored, in Unix milliseconds, if it is that of an earlier run, repeated; None if
            the job ran just now.
        raw: The whole reply, as parsed from JSON.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        message_id: str | None = None,
        generation: int | None = None,
        stored_ms: int | None = None,
    ) -> None:
        detail = raw.get("error_detail") or {}
        self.raw = dict(raw)
        self.code = str(detail.get("code", "unknown"))
        self.message = str(raw.get("error", ""))
        self.field: str | None = detail.get("field")
        self.problems = _problems(detail.get("problems") or ())
        self.is_recoverable = bool(detail.get("recoverable", False))
        self.retry_after_ms: int | None = detail.get("retry_after")
        self.message_id = message_id
        self.generation = generation
        self.stored_ms = stored_ms
        super().__init__(f"{self.code}: {self.message}")


def _problems(given: Sequence[Mapping[str, Any]]) -> tuple[Problem, ...]:
    return tuple(Problem(str(problem.get("path", "")), str(problem.get("problem", ""))) for problem in given)
