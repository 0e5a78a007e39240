"""Look at dead letters without changing anything.

Messages are fetched without an ack and go back when the channel closes. It counts as a delivery, so dead-letter
queues have a limit that nobody reaches by looking.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity

from worker.amqp.connection import RPC_SECONDS, losses, scratch_channel
from worker.amqp.copies import HEADER_CODE, HEADER_FINGERPRINT, HEADER_FIRST_FAILED, HEADER_MESSAGE, HEADER_WORKER
from worker.amqp.incoming import HEADER_ANONYMOUS
from worker.amqp.topology import Topology, measure
from worker.errors import InvalidJSONError
from worker.message import LANES, Lane, Trail, parse


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """A dead-letter queue.

    Attributes:
        name: Its full name.
        lane: The lane whose jobs it holds.
        messages: How many; None where the queue does not exist.
    """

    name: str
    lane: Lane
    messages: int | None


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
        fingerprint: Signature fingerprint, or None.
        worker: Which worker gave it up, or None.
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
    fingerprint: str | None
    worker: str | None


async def list_dead(connection: AbstractConnection, topology: Topology) -> list[DeadQueue]:
    """Count the dead letters of every lane."""
    queues = []
    for lane in LANES:
        depth = await measure(connection, topology.dead_queue(lane))
        queues.append(DeadQueue(topology.dead_queue(lane), lane, None if depth is None else depth[0]))
    return queues


async def show(
    connection: AbstractConnection, topology: Topology, lane: Lane, *, limit: int = 20
) -> list[DeadLetterView]:
    """Look at the oldest dead letters of a lane; they stay where they are.

    Raises:
        ConnectionLostError: The broker did not answer.
    """
    async with scratch_channel(connection) as channel:
        return [view(message) async for message in peek(channel, topology.dead_queue(lane), limit)]


def view(message: DeliveredMessage) -> DeadLetterView:
    """Read one dead letter."""
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    trail = Trail.from_headers(headers)
    command, program_id = _read_body(message)
    return DeadLetterView(
        code=_text(headers, HEADER_CODE) or _broker_code(headers),
        message=_text(headers, HEADER_MESSAGE),
        attempts=trail.attempts,
        first_failed_ms=_number(headers, HEADER_FIRST_FAILED),
        message_id=None if HEADER_ANONYMOUS in headers else properties.message_id or None,
        correlation_id=properties.correlation_id or None,
        reply_to=properties.reply_to or None,
        command=command,
        program_id=program_id,
        size_bytes=len(message.body),
        generation=trail.generation,
        fingerprint=_text(headers, HEADER_FINGERPRINT),
        worker=_text(headers, HEADER_WORKER),
    )


async def peek(channel: Channel, queue: str, limit: int) -> AsyncIterator[DeliveredMessage]:
    """Fetch up to ``limit`` messages without an ack; they go back when the channel closes."""
    for _ in range(limit):
        try:
            with losses(ChannelNotFoundEntity):
                message = await channel.basic_get(queue, timeout=RPC_SECONDS)
        except ChannelNotFoundEntity:
            return
        if message.delivery_tag is None:
            return
        yield message


def _broker_code(headers: Mapping[str, Any]) -> str | None:
    reason = _text(headers, "x-first-death-reason") or _death_reason(headers)
    return None if reason is None else f"broker:{reason}"


def _death_reason(headers: Mapping[str, Any]) -> str | None:
    match headers.get("x-death"):
        case [{"reason": str(reason)}, *_]:
            return reason
        case _:
            return None


def _read_body(message: DeliveredMessage) -> tuple[str | None, str | None]:
    """Return command and program id, where the body tells."""
    try:
        document = parse(message.body, max_bytes=len(message.body))
    except InvalidJSONError:
        return None, None
    match document:
        case {"args": {"program_id": str(program_id)}} | {"args": {"id": str(program_id)}}:
            found: str | None = program_id
        case _:
            found = None
    command = document.get("command") if isinstance(document, dict) else None
    return command if isinstance(command, str) else None, found


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None


def _number(headers: Mapping[str, Any], name: str) -> int | None:
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
