"""How a job ends: the reply and what happens to the message.

======================= ====================================================================
Settlement              what the consumer does after the reply was published with a confirm
======================= ====================================================================
`Ack`                   ack
`AckIfReplied`          ack if a reply was taken by the broker, else as `DeadLetter`
`DeadLetter`            copy to the dead-letter queue, confirm, ack
`Delay`                 copy to a step of the delay ladder, confirm, ack
`Reject`                reject without a copy: the broker dead-letters the message as it is
`Leave`                 nothing: the broker delivers it again
`Isolate`               not settled yet: hand it in again when nothing else is in hand, or delay it
`GiveBack`              back to the broker as soon as its queue is not consumed any more
======================= ====================================================================
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from worker.errors import Problem, WorkerError
from worker.facts import JobFacts
from worker.message.delivery import HEADER_ATTEMPTS, HEADER_GENERATION, HEADER_STORED, Delivery, Trail
from worker.message.strict_json import dump

# RabbitMQ 4 closes the channel at a message over 16 MiB, 3.10 over 128 MiB, and would do so again at every repetition.
MAX_REPLY_BYTES = 15 * 1024 * 1024
"""How long the body of a reply may be."""

MAX_KEPT_BYTES = MAX_REPLY_BYTES - 64 * 1024
"""How long a reply may be that is stored: the reply of ``get_result`` goes around it."""

_MAX_LETTER_TEXT = 512
# Of an error that would not fit into a reply, so much is told.
_MAX_TOLD = 1_000

RequestId = str | int | float | None

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "dspex-worker")


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says about itself, in headers.

    Attributes:
        code: Wire code of the error.
        message: Its sentence, cut to what fits a header.
        attempts: Runs that reached the LM.
        fingerprint: Signature fingerprint, or None where there was none.
    """

    code: str
    message: str
    attempts: int = 0
    fingerprint: str | None = None

    @classmethod
    def of(cls, error: WorkerError, *, fingerprint: str | None = None) -> Self:
        """Return the letter of an error: its sentence, and the first problem where the sentence does not tell it."""
        text = str(error)
        if error.problems and error.problems[0].problem not in text:
            text = f"{text} ({error.problems[0].problem})"
        return cls(error.code, text[:_MAX_LETTER_TEXT], error.attempts, fingerprint)


@dataclass(frozen=True, slots=True)
class Ack:
    """The job is done."""


@dataclass(frozen=True, slots=True)
class AckIfReplied:
    """The job is done if somebody heard of it."""

    letter: Letter


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The job failed; keep it for an operator."""

    letter: Letter


@dataclass(frozen=True, slots=True)
class Delay:
    """The job runs again later.

    Attributes:
        delay_ms: A step of the ladder.
        trail: The internal headers of the copy.
    """

    delay_ms: int
    trail: Trail


@dataclass(frozen=True, slots=True)
class Reject:
    """The message cannot be copied; the broker moves it."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The message stays the broker's: shutdown, or a lost connection."""


@dataclass(frozen=True, slots=True)
class Isolate:
    """The job may have killed its worker: it runs with nothing else in hand, so that it takes no neighbour with it.

    Attributes:
        later: What happens to the message while another job is being run alone.
    """

    later: Delay


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The job cannot be claimed here for now: another worker may have it, once this one has stopped to consume."""


Settlement = Ack | AckIfReplied | DeadLetter | Delay | Reject | Leave | Isolate | GiveBack


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, ready to publish.

    Attributes:
        body: JSON bytes; stored, and repeated as they are but for `mark_stored`.
        reply_to: Queue it goes to.
        correlation_id: The request's.
        message_id: Derived from the job, the same at every repetition.
        headers: ``traceparent``, our counts, and when it was stored if it is a stored one.
    """

    body: bytes
    reply_to: str
    correlation_id: str | None
    message_id: str
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one delivery.

    Attributes:
        reply: To publish before settling, or None.
        settlement: What happens to the message.
        code: ``ok``, or the wire code of the error, for the metrics.
        on_settled: Called after the settlement is safe with the broker and before the ack.
        facts: What the log says of the job; None where it says nothing, as of a success.
    """

    reply: Reply | None
    settlement: Settlement
    code: str = "ok"
    on_settled: Callable[[], Awaitable[None]] | None = None
    facts: JobFacts | None = None


def encode_success(request_id: RequestId, result: Mapping[str, Any], *, now_ms: int) -> bytes:
    """Write the body of a success."""
    return dump({"id": request_id, "success": True, "timestamp": now_ms / 1_000, "result": result})


def encode_error(request_id: RequestId, error: WorkerError, *, now_ms: int) -> bytes:
    """Write the body of an error: ``error`` is the fixed string, ``error_detail`` the whole story.

    What would not fit into a reply, because it quotes what was sent, is cut: an error can always be told.
    """
    detail = error_detail(error)
    body = _write_error(request_id, detail, now_ms=now_ms)
    if len(body) <= MAX_KEPT_BYTES:
        return body
    cut = detail | {"message": str(error)[:_MAX_TOLD], "field": None, "problems": []}
    is_long = isinstance(request_id, str) and len(request_id) > _MAX_TOLD
    return _write_error(None if is_long else request_id, cut, now_ms=now_ms)


def make_unsendable(reply: Reply, error: WorkerError, *, now_ms: int) -> Reply:
    """Return the error that goes out in place of a reply that cannot."""
    error.attempts = reply.headers[HEADER_ATTEMPTS]
    body = encode_error(json.loads(reply.body).get("id"), error, now_ms=now_ms)
    return replace(reply, body=body)


def mark_stored(reply: Reply, stored_ms: int) -> Reply:
    """Say of a reply that it is a stored one, and since when, in its headers and as the last member of its body.

    The bytes before it are as stored. A body that has no room for it, or is no object, says so in the headers only.
    """
    marked = replace(reply, headers={**reply.headers, HEADER_STORED: stored_ms})
    mark = b',"stored_ms":%d}' % stored_ms
    if not reply.body.endswith(b"}") or len(reply.body) - 1 + len(mark) > MAX_REPLY_BYTES:
        return marked
    return replace(marked, body=reply.body[:-1] + mark)


def too_large(body: bytes, *, most: int = MAX_REPLY_BYTES) -> str | None:
    """Return what is wrong with the size of a reply's body, or None where it fits."""
    size = len(body)
    return f"the reply would have {size:,} bytes, and {most:,} is the limit" if size > most else None


def error_detail(error: WorkerError) -> dict[str, Any]:
    """Return an error as ``error_detail`` spells it; also the warning that a fallback leaves behind."""
    return {
        "code": error.code,
        "message": str(error),
        "field": error.field,
        "recoverable": error.recoverable,
        "retry_after": error.retry_after_ms,
        "attempts": error.attempts,
        "problems": [_problem(problem) for problem in error.problems],
    }


def make_reply(
    delivery: Delivery, body: bytes, *, job_key: str | None, namespace: str, attempts: int, tenant: str = ""
) -> Reply | None:
    """Address a reply body to the caller, or return None where nobody asked for one.

    Its ``message_id`` is derived from namespace, tenant, job key and generation, so every repetition carries the
    same one. A job without any id has its body's hash for a key.
    """
    if delivery.reply_to is None:
        return None
    key = job_key if job_key is not None else f"body:{hashlib.sha256(delivery.body).hexdigest()}"
    seed = dump([namespace, tenant, key, delivery.trail.generation]).decode()
    headers: dict[str, Any] = {
        HEADER_ATTEMPTS: attempts,
        HEADER_GENERATION: delivery.trail.generation,
    }
    traceparent = delivery.headers.get("traceparent")
    if isinstance(traceparent, str):
        headers["traceparent"] = traceparent
    return Reply(body, delivery.reply_to, delivery.correlation_id, str(uuid.uuid5(_IDS, seed)), headers)


def _write_error(request_id: RequestId, detail: Mapping[str, Any], *, now_ms: int) -> bytes:
    body = {
        "id": request_id,
        "success": False,
        "timestamp": now_ms / 1_000,
        "error": detail["message"],
        "error_detail": detail,
    }
    return dump(body)


def _problem(problem: Problem) -> dict[str, str]:
    return {"path": problem.path, "problem": problem.problem}
