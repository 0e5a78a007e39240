"""What the sender meant: one command with its arguments, ids and clocks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import InvalidRequestError, ReplyToNotAllowedError
from worker.message.contract import as_object
from worker.message.delivery import HEADER_DEADLINE, HEADER_RERUN, HEADER_TIMEOUT, MAX_RERUN, Delivery, Lane, rerun_of
from worker.message.strict_json import canonical
from worker.suggestions import did_you_mean

_DEFAULT_COMMAND: dict[Lane, str] = {"create": "create_program", "execute": "execute_program"}
_TOP_LEVEL = frozenset({"command", "id", "args", "timestamp"})
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Job:
    """One job.

    Attributes:
        command: As named in the body, or the lane's own.
        id: The request's ``id``, copied to the reply.
        args: Argument → value; keyword lists are objects by now.
        delivery: Where it came from, and where the reply goes.
        key: Idempotency key: ``message_id``, else derived from ``correlation_id``, ``reply_to`` and the body hash;
            None where the sender gave neither id.
        body_hash: SHA-256, in hex, of what makes two jobs the same.
        deadline_ms: Unix milliseconds after which the job is never started, or None.
        tenant: The broker user whose job it is; empty where tenancy is off.
        timeout_ms: After how long its sender gives up, in milliseconds, or None.
        warnings: What its reply is to say besides.
    """

    command: str
    id: str | int | float | None
    args: Mapping[str, Any]
    delivery: Delivery
    key: str | None
    body_hash: str
    deadline_ms: int | None
    tenant: str = ""
    timeout_ms: int | None = None
    warnings: tuple[str, ...] = ()


def request_id(document: object) -> str | int | float | None:
    """Return the ``id`` of a parsed body, or None where it has none that can be repeated."""
    value = document.get("id") if isinstance(document, dict) else None
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def check_properties(delivery: Delivery) -> None:
    """Refuse properties that cannot be honoured.

    Raises:
        InvalidRequestError: Unreadable properties, another content type or encoding, control characters in an id.
    """
    if delivery.unreadable:
        raise InvalidRequestError(f"Properties that are not UTF-8: {', '.join(delivery.unreadable)}")
    media = (delivery.content_type or "application/json").split(";")[0].strip().lower()
    if media != "application/json":
        raise InvalidRequestError("content_type must be application/json or absent")
    if (delivery.content_encoding or "utf-8").lower() not in ("utf-8", "utf8"):
        raise InvalidRequestError("content_encoding must be utf-8 or absent")
    for name in ("message_id", "correlation_id"):
        if _CONTROL_CHARACTER.search(getattr(delivery, name) or ""):
            raise InvalidRequestError(f"{name} holds a control character")


def decode(document: object, delivery: Delivery, *, tenant: str = "") -> Job:
    """Read a parsed body as a job of a tenant.

    Raises:
        InvalidRequestError: It has not the shape of a request.
    """
    if not isinstance(document, dict):
        raise InvalidRequestError("The body must be a JSON object")
    unknown = sorted(set(document) - _TOP_LEVEL)
    if unknown:
        name = unknown[0][:64]
        hint = did_you_mean(name, sorted(_TOP_LEVEL - document.keys()))
        raise InvalidRequestError(f"Unknown key in the request: {name}{hint}", field=name)
    if document.get("id") is not None and request_id(document) is None:
        raise InvalidRequestError("id must be a string or a number", field="id")
    command = _command(document, delivery.lane)
    args = as_object({} if document.get("args") is None else document["args"])
    if not isinstance(args, dict):
        raise InvalidRequestError("args must be an object or a list of pairs", field="args")
    body_hash = _hash(command, args)
    _check_rerun(delivery)
    return Job(
        command=command,
        id=request_id(document),
        args=args,
        delivery=delivery,
        key=_key(delivery, body_hash),
        body_hash=body_hash,
        deadline_ms=_deadline(delivery),
        tenant=tenant,
        timeout_ms=_timeout(delivery),
    )


def check_reply_to(reply_to: str | None, *, namespace: str, pattern: str, tenant: str | None = None) -> None:
    """Refuse a reply queue that is one of ours or another tenant's, or that the operator excludes.

    Args:
        reply_to: Name of the queue, or None.
        namespace: Prefix of our queues.
        pattern: What a name must match in full; empty for any.
        tenant: Whose job it is, empty for nobody's; None where all are one trust domain.

    Raises:
        ReplyToNotAllowedError: It names a queue of the namespace outside ``<namespace>.reply.``, or there another
            tenant's, or does not match.
    """
    if reply_to is None:
        return
    is_reserved = reply_to.startswith(f"{namespace}.") and not _is_for_replies(reply_to, namespace, tenant=tenant)
    if is_reserved or (pattern and re.fullmatch(pattern, reply_to) is None):
        raise ReplyToNotAllowedError("Replies may not go to this queue")


def _is_for_replies(reply_to: str, namespace: str, *, tenant: str | None) -> bool:
    """Tell whether a queue of the namespace is made for replies to a tenant; the broker's rights draw the same line."""
    if tenant is None:
        return reply_to.startswith(f"{namespace}.reply.")
    own = f"{namespace}.reply.{tenant}"
    return bool(tenant) and (reply_to == own or reply_to.startswith(f"{own}."))


def _command(document: Mapping[str, Any], lane: Lane) -> str:
    command = document.get("command")
    if command is None:
        command = _DEFAULT_COMMAND.get(lane)
    if not isinstance(command, str):
        raise InvalidRequestError("command must be a string, and the control queue has no default", field="command")
    return command


def _hash(command: str, args: Mapping[str, Any]) -> str:
    """Hash command and args; ``signature.metadata`` holds a time stamp, so it says nothing about sameness."""
    signature = args.get("signature")
    if isinstance(signature, dict) and "metadata" in signature:
        bare = {key: value for key, value in signature.items() if key != "metadata"}
        args = {**args, "signature": bare}
    return hashlib.sha256(canonical({"command": command, "args": args})).hexdigest()


def _key(delivery: Delivery, body_hash: str) -> str | None:
    if delivery.message_id:
        return delivery.message_id
    if not delivery.correlation_id:
        return None
    parts = canonical([delivery.correlation_id, delivery.reply_to, body_hash])
    return f"derived:{hashlib.sha256(parts).hexdigest()}"


def _check_rerun(delivery: Delivery) -> None:
    if HEADER_RERUN not in delivery.headers:
        return
    if rerun_of(delivery.headers) is None:
        raise InvalidRequestError(
            f"{HEADER_RERUN} must be the generation of the reply that failed, a whole number from 0 to {MAX_RERUN:,}",
            field=HEADER_RERUN,
        )
    if not delivery.message_id and not delivery.correlation_id:
        raise InvalidRequestError(
            f"{HEADER_RERUN} needs the message_id, or the correlation_id, of the job that failed", field=HEADER_RERUN
        )


def _deadline(delivery: Delivery) -> int | None:
    value = delivery.headers.get(HEADER_DEADLINE)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequestError(f"{HEADER_DEADLINE} must be unix milliseconds", field=HEADER_DEADLINE)
    return value


def _timeout(delivery: Delivery) -> int | None:
    value = delivery.headers.get(HEADER_TIMEOUT)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"{HEADER_TIMEOUT} must be milliseconds, at least 1", field=HEADER_TIMEOUT)
    return value
