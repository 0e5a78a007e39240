"""The properties of everything that this worker publishes: replies, retries, dead letters, replays.

A copy keeps body, ``message_id``, ``correlation_id``, ``reply_to``, content type and the publisher's public headers.

=================================================== ==================================================================
of the original                                     the copy
=================================================== ==================================================================
``expiration``                                      drops it (it would come back early); a retry turns it into
                                                    ``x-dspex-deadline``, counted from the first delivery
``x-dspex-deadline``, ``x-dspex-timeout``           a retry keeps them, the deadline as the first delivery has found it;
                                                    a replay drops them
``user_id``                                         carries our own: the broker refuses a foreign one; with tenants
                                                    the job's goes into ``x-dspex-tenant``
``x-death``, ``x-first-death-*``, ``x-last-death-*``,
``x-delivery-count``, ``CC``, ``BCC``               drops them: they are the broker's own, or would route it elsewhere
internal headers and those of dead letters          drops them, forged or not, and writes its own
``x-dspex-rerun``                                   a retry keeps it; in a dead letter the generation tells
routing key                                         goes into ``x-dspex-original-routing-key``
=================================================== ==================================================================

See Also:
    docs/RELIABILITY.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from worker.amqp.incoming import HEADER_ANONYMOUS, HEADER_DELIVERY_COUNT, Incoming
from worker.message import (
    HEADER_ATTEMPTS,
    HEADER_DEADLINE,
    HEADER_RERUN,
    HEADER_TIMEOUT,
    INTERNAL_HEADERS,
    Letter,
    Reply,
    Trail,
)

HEADER_CODE = "x-dspex-code"
HEADER_MESSAGE = "x-dspex-message"
HEADER_FIRST_FAILED = "x-dspex-first-failed"
HEADER_FINGERPRINT = "x-dspex-fingerprint"
HEADER_WORKER = "x-dspex-worker"
HEADER_LM = "x-dspex-lm"
HEADER_REPLAY = "x-dspex-replay"
LETTER_HEADERS = (HEADER_CODE, HEADER_MESSAGE, HEADER_FIRST_FAILED, HEADER_FINGERPRINT, HEADER_WORKER, HEADER_LM)

# A reply carries what its request brought, and a header frame has an end.
MAX_HEADER_BYTES = 1024
PERSISTENT = 2

_DROPPED = frozenset(
    ("x-death", HEADER_DELIVERY_COUNT, "CC", "BCC", HEADER_ANONYMOUS, HEADER_RERUN, *INTERNAL_HEADERS, *LETTER_HEADERS)
)
_DROPPED_PREFIXES = ("x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who publishes a copy.

    Attributes:
        user_id: Broker user of the publishing connection.
        worker_id: For the header of a dead letter.
        has_tenants: Whether a copy tells whose job it is.
    """

    user_id: str
    worker_id: str
    has_tenants: bool = False


def reply_properties(reply: Reply) -> Basic.Properties:
    """Write the properties of a reply; a header value over 1 KiB is left out."""
    return Basic.Properties(
        message_type="dspex.reply",
        content_type="application/json",
        content_encoding="utf-8",
        app_id="dspex-worker",
        delivery_mode=PERSISTENT,
        correlation_id=reply.correlation_id,
        message_id=reply.message_id,
        headers={name: value for name, value in reply.headers.items() if _fits(value)},
    )


def delay_copy(incoming: Incoming, *, trail: Trail, sender: Sender, now_ms: int) -> Basic.Properties:
    """Write the properties of a retry."""
    delivery = incoming.delivery
    headers = _public_headers(incoming.message)
    if delivery.is_rerun:
        headers[HEADER_RERUN] = delivery.headers[HEADER_RERUN]
    if trail.deadline_ms is not None:
        headers[HEADER_DEADLINE] = trail.deadline_ms
    if delivery.expires_in_ms is not None and delivery.trail.first_delivered_ms is None:
        first_ms = now_ms if trail.first_delivered_ms is None else trail.first_delivered_ms
        headers[HEADER_DEADLINE] = _earlier(headers.get(HEADER_DEADLINE), first_ms + delivery.expires_in_ms)
    headers |= _trail_of_copy(trail, incoming, sender=sender).to_headers()
    return _copy(incoming.message, headers, message_id=delivery.message_id, user_id=sender.user_id)


def dead_letter_copy(
    incoming: Incoming, *, letter: Letter, sender: Sender, now_ms: int, lm: str | None = None
) -> Basic.Properties:
    """Write the properties of a dead letter: the original's, its trail, why it failed, and with which LM alias."""
    delivery = incoming.delivery
    trail = _trail_of_copy(delivery.trail, incoming, sender=sender)
    headers = _public_headers(incoming.message) | trail.to_headers()
    headers |= {
        HEADER_ATTEMPTS: letter.attempts,
        HEADER_CODE: letter.code,
        HEADER_MESSAGE: _cut(letter.message),
        HEADER_FIRST_FAILED: now_ms,
        HEADER_WORKER: sender.worker_id,
    }
    if letter.fingerprint is not None:
        headers[HEADER_FINGERPRINT] = letter.fingerprint
    if lm is not None:
        headers[HEADER_LM] = _cut(lm)
    return _copy(incoming.message, headers, message_id=delivery.message_id, user_id=sender.user_id)


def replay_copy(message: DeliveredMessage, *, trail: Trail, replay_id: str, user_id: str) -> Basic.Properties:
    """Write the properties of a replayed dead letter: a fresh job.

    Attempts, waits, first-delivery and first-failure times, deadline and expiration are gone; ids are kept. How it
    failed is in the trail's history.

    Args:
        message: The dead letter.
        trail: Of the copy: the next generation of the same tenant's job.
        replay_id: By which the replay knows what it has produced itself, should the job fail again.
        user_id: Broker user of the publishing connection.
    """
    headers = _public_headers(message) | trail.to_headers() | {HEADER_REPLAY: replay_id}
    headers.pop(HEADER_DEADLINE, None)
    headers.pop(HEADER_TIMEOUT, None)
    is_anonymous = HEADER_ANONYMOUS in (message.header.properties.headers or {})
    message_id = None if is_anonymous else message.header.properties.message_id
    return _copy(message, headers, message_id=message_id, user_id=user_id)


def _copy(
    message: DeliveredMessage, headers: dict[str, Any], *, message_id: str | None, user_id: str
) -> Basic.Properties:
    original = message.header.properties
    if not message_id:
        headers[HEADER_ANONYMOUS] = True
    return Basic.Properties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=headers,
        delivery_mode=PERSISTENT,
        priority=original.priority,
        correlation_id=original.correlation_id,
        reply_to=original.reply_to,
        message_id=message_id or uuid.uuid4().hex,
        timestamp=original.timestamp,
        message_type=original.message_type,
        user_id=user_id,
        app_id=original.app_id,
    )


def _public_headers(message: DeliveredMessage) -> dict[str, Any]:
    headers: Mapping[str, Any] = message.header.properties.headers or {}
    return {
        name: value
        for name, value in headers.items()
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
    }


def _trail_of_copy(trail: Trail, incoming: Incoming, *, sender: Sender) -> Trail:
    """Add what only the original tells: the publisher's routing key and, with tenants, whose job it is."""
    delivery = incoming.delivery
    key = trail.original_routing_key or delivery.trail.original_routing_key or incoming.message.routing_key
    tenant = delivery.user_id if sender.has_tenants else None
    return replace(trail, original_routing_key=key, tenant=tenant)


def _earlier(deadline: object, other_ms: int) -> object:
    """Return the earlier of two deadlines; one that is no number stays, for the handler to refuse."""
    if deadline is None:
        return other_ms
    return min(deadline, other_ms) if isinstance(deadline, int) and not isinstance(deadline, bool) else deadline


def _fits(value: object) -> bool:
    return not isinstance(value, str) or len(value.encode("utf-8", "replace")) <= MAX_HEADER_BYTES


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:MAX_HEADER_BYTES].decode("utf-8", "ignore")
