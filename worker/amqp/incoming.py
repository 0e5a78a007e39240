"""One message in hand: what it says, and how it is given back to the broker."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import InvalidOperation
from typing import Any, Literal, assert_never

import structlog
from aiormq.abc import DeliveredMessage

from worker.amqp.connection import losses
from worker.amqp.errors import ConnectionLostError
from worker.amqp.shortstr import Unreadable
from worker.message import HEADER_GENERATION, HEADER_TENANT, Delivery, Lane, Trail, rerun_of

MAX_PROPERTIES_BYTES = 64 * 1024
HEADER_DELIVERY_COUNT = "x-delivery-count"
# aiormq gives every publish without a message_id a random one, which must not pass for an idempotency key.
HEADER_ANONYMOUS = "x-dspex-anonymous"

_STRINGS = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "message_type", "app_id")
_CANNOT_ENCODE = (TypeError, ValueError, OverflowError, RecursionError, struct.error, InvalidOperation)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from a work queue with the means to settle it.

    Attributes:
        message: As aiormq gave it.
        delivery: What the handler sees of it.
        queue: The work queue it came from; the routing key of every copy.
    """

    message: DeliveredMessage
    delivery: Delivery
    queue: str

    @property
    def is_gone(self) -> bool:
        """Whether the channel it came by is closed, so that the broker delivers it again."""
        return self.message.channel.is_closed

    async def ack(self) -> None:
        """Tell the broker that the message is done; on a dead channel it comes again instead."""
        await settle(self.message, "ack")

    async def reject(self) -> None:
        """Let the broker dead-letter the message as it is."""
        await settle(self.message, "reject")

    async def requeue(self) -> None:
        """Put the message back at the head of its queue, for whoever consumes it; it counts as a delivery."""
        await settle(self.message, "requeue")


async def settle(message: DeliveredMessage, how: Literal["ack", "reject", "requeue"]) -> None:
    """Settle with the broker; a channel that is gone is no error: the message will be delivered again."""
    tag = message.delivery_tag or 0
    try:
        with losses():
            match how:
                case "ack":
                    await message.channel.basic_ack(tag)
                case "reject":
                    await message.channel.basic_reject(tag, requeue=False)
                case "requeue":
                    await message.channel.basic_reject(tag, requeue=True)
                case _:
                    assert_never(how)
    except ConnectionLostError as error:
        _log.debug("settlement.lost", reason=str(error))


def read(
    message: DeliveredMessage, *, lane: Lane, queue: str, trusted_users: Collection[str], empty_ms: int | None = None
) -> Incoming:
    """Read a message; total, whatever its properties are.

    Args:
        message: As aiormq gave it.
        lane: The lane it came by.
        queue: Its work queue.
        trusted_users: Broker users whose internal headers count. RabbitMQ has checked the ``user_id``. A copy of
            theirs is the job of the tenant that it names, or of nobody.
        empty_ms: When the queue was last known to be empty, or None.
    """
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    is_trusted = properties.user_id in trusted_users
    rerun = rerun_of(headers)
    delivery = Delivery(
        lane=lane,
        body=message.body,
        reply_to=properties.reply_to or None,
        correlation_id=properties.correlation_id or None,
        message_id=None if is_trusted and HEADER_ANONYMOUS in headers else properties.message_id or None,
        content_type=properties.content_type or None,
        content_encoding=properties.content_encoding or None,
        headers=headers,
        trail=_trail(headers, is_trusted=is_trusted, rerun=rerun),
        user_id=_tenant(headers) if is_trusted and is_copy(headers) else properties.user_id or None,
        delivery_count=_count(headers.get(HEADER_DELIVERY_COUNT)),
        expires_in_ms=_milliseconds(properties.expiration),
        unreadable=tuple(_unreadable(properties, headers)),
        is_oversized=not is_copyable(properties),
        is_rerun=rerun is not None,
        is_redelivered=bool(message.redelivered),
        sent_ms=_unix_ms(properties.timestamp),
        empty_ms=empty_ms,
        is_gone=lambda: bool(message.channel.is_closed),
    )
    return Incoming(message, delivery, queue)


def is_copyable(properties: Any) -> bool:
    """Tell whether properties and headers can be written again and leave room for ours in one frame.

    A copy beyond the frame limit would make the broker close the whole publish connection.
    """
    if not properties.headers:
        return True
    try:
        return len(properties.marshal()) <= MAX_PROPERTIES_BYTES
    except _CANNOT_ENCODE:
        return False


def is_copy(headers: Mapping[str, Any]) -> bool:
    """Tell whether a trusted sender's message is a copy, whose ``user_id`` is the copier's: each has a generation."""
    return HEADER_GENERATION in headers


def _trail(headers: Mapping[str, Any], *, is_trusted: bool, rerun: int | None) -> Trail:
    """Return the trail; anybody may ask for a rerun, which is the generation after the one that it is of."""
    trail = Trail.from_headers(headers) if is_trusted else Trail()
    return trail if rerun is None else replace(trail, generation=rerun + 1)


def _tenant(headers: Mapping[str, Any]) -> str | None:
    tenant = headers.get(HEADER_TENANT)
    return tenant if isinstance(tenant, str) else None


def _unreadable(properties: Any, headers: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of properties and headers that are not UTF-8."""
    for name in _STRINGS:
        if isinstance(getattr(properties, name), Unreadable):
            yield name
    for name, value in headers.items():
        if isinstance(name, Unreadable) or _has_unreadable(value):
            yield f"header {name[:64]}"


def _has_unreadable(value: object) -> bool:
    if isinstance(value, dict):
        return any(isinstance(key, Unreadable) or _has_unreadable(member) for key, member in value.items())
    if isinstance(value, list):
        return any(_has_unreadable(member) for member in value)
    return isinstance(value, Unreadable)


def _unix_ms(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1_000)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _milliseconds(expiration: str | None) -> int | None:
    return int(expiration) if expiration and expiration.isascii() and expiration.isdigit() else None
