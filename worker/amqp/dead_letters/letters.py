"""One dead letter, as an operator sees it, and what of its headers may be believed.

Headers of ours count where a trusted broker user has published the letter. A message that RabbitMQ moved by itself
still carries what its publisher wrote, forged or not: its trail is empty, and its tenant is the publisher, whose name
the broker has checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiormq.abc import DeliveredMessage

from worker.amqp.copies import (
    HEADER_CODE,
    HEADER_FINGERPRINT,
    HEADER_FIRST_FAILED,
    HEADER_LM,
    HEADER_MESSAGE,
    HEADER_WORKER,
)
from worker.amqp.incoming import HEADER_ANONYMOUS, is_copy
from worker.errors import InvalidJSONError
from worker.message import Death, Trail, as_object, parse


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """One dead letter, as an operator sees it.

    Attributes:
        code: Wire code; ``broker:<reason>`` where RabbitMQ moved the message, None where nothing tells.
        message: The error's sentence, or None.
        attempts: Runs that reached the LM.
        first_failed_ms: Unix milliseconds, or None.
        message_id: The job's idempotency key, or None.
        correlation_id: The caller's, or None.
        reply_to: Where the reply went, or None.
        command: From the body, or None.
        program_id: From the body, or None.
        size_bytes: Of the body.
        generation: How often it was replayed.
        tenant: Whose job it is, or None.
        fingerprint: Signature fingerprint, or None.
        worker: Which worker gave it up, or None.
        lm: Alias of the LM: the one that the job used, else the one that its body names, or None.
        history: How it failed before, the oldest first; empty where it was never replayed.
    """

    code: str | None
    message: str | None
    attempts: int
    first_failed_ms: int | None
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    command: str | None
    program_id: str | None
    size_bytes: int
    generation: int
    tenant: str | None
    fingerprint: str | None
    worker: str | None
    lm: str | None = None
    history: tuple[Death, ...] = ()

    @property
    def death(self) -> Death | None:
        """How it failed last, for its history; None where nothing tells."""
        if self.code is None and self.first_failed_ms is None:
            return None
        return Death(self.code, self.first_failed_ms, self.generation, self.worker)


@dataclass(frozen=True, slots=True)
class _Named:
    """What a body names."""

    command: str | None = None
    program_id: str | None = None
    lm: str | None = None


def view(message: DeliveredMessage, *, trusted_users: Collection[str]) -> DeadLetterView:
    """Read one dead letter; total, whatever it holds."""
    properties = message.header.properties
    headers = _letter_headers(message, trusted_users=trusted_users)
    trail = read_trail(message, trusted_users=trusted_users)
    named = _read_body(message)
    return DeadLetterView(
        code=_text(headers, HEADER_CODE) or _broker_code(headers),
        message=_text(headers, HEADER_MESSAGE),
        attempts=trail.attempts,
        first_failed_ms=_number(headers, HEADER_FIRST_FAILED) or _death_ms(headers),
        message_id=None if HEADER_ANONYMOUS in headers else properties.message_id or None,
        correlation_id=properties.correlation_id or None,
        reply_to=properties.reply_to or None,
        command=named.command,
        program_id=named.program_id,
        size_bytes=len(message.body),
        generation=trail.generation,
        tenant=trail.tenant,
        fingerprint=_text(headers, HEADER_FINGERPRINT),
        worker=_text(headers, HEADER_WORKER),
        lm=_text(headers, HEADER_LM) or named.lm,
        history=trail.history,
    )


def read_trail(message: DeliveredMessage, *, trusted_users: Collection[str]) -> Trail:
    """Read the trail of a copy that a trusted user made; of any other message, only whose it is."""
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    if properties.user_id in trusted_users and is_copy(headers):
        return Trail.from_headers(headers)
    return Trail(original_routing_key=_death_key(headers), tenant=properties.user_id or None)


def is_foreign(message: DeliveredMessage, *, trusted_users: Collection[str]) -> bool:
    """Tell whether somebody who is not trusted has put a letter here: no worker did, and the broker did not.

    Every worker's letter carries its user, so one that carries none is nobody's.
    """
    properties = message.header.properties
    return properties.user_id not in trusted_users and not _was_moved(properties.headers or {})


def read_header(message: DeliveredMessage, name: str) -> object:
    """Return a header, or None."""
    return (message.header.properties.headers or {}).get(name)


def _letter_headers(message: DeliveredMessage, *, trusted_users: Collection[str]) -> Mapping[str, Any]:
    """Return the headers; without those of a letter where no trusted user has written them."""
    headers: Mapping[str, Any] = message.header.properties.headers or {}
    if message.header.properties.user_id in trusted_users:
        return headers
    return {name: value for name, value in headers.items() if not str(name).startswith("x-dspex-")}


def _was_moved(headers: Mapping[str, Any]) -> bool:
    return "x-death" in headers


def _broker_code(headers: Mapping[str, Any]) -> str | None:
    reason = _text(headers, "x-first-death-reason") or _death(headers).get("reason")
    return f"broker:{reason}" if isinstance(reason, str) else None


def _death_key(headers: Mapping[str, Any]) -> str | None:
    match _death(headers):
        case {"routing-keys": [str(key), *_]}:
            return key
        case _:
            return None


def _death_ms(headers: Mapping[str, Any]) -> int | None:
    time = _death(headers).get("time")
    return round(time.timestamp() * 1_000) if isinstance(time, datetime) else None


def _death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the broker wrote when it moved the message last, or nothing."""
    match headers.get("x-death"):
        case [dict() as death, *_]:
            return death
        case _:
            return {}


def _read_body(message: DeliveredMessage) -> _Named:
    """Return command, program id and LM alias, where the body tells."""
    try:
        document = parse(message.body, max_bytes=len(message.body))
    except InvalidJSONError:
        return _Named()
    if not isinstance(document, Mapping):
        return _Named()
    args = _object(document.get("args"))
    program_id = _text(args, "program_id") or _text(args, "id")
    lm = _text(_object(args.get("options")), "lm") or _text(args, "lm")
    return _Named(_text(document, "command"), program_id, lm)


def _object(value: object) -> Mapping[str, Any]:
    found = as_object(value)
    return found if isinstance(found, Mapping) else {}


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None


def _number(headers: Mapping[str, Any], name: str) -> int | None:
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
