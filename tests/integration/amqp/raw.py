"""Publish what no careful client sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from worker.amqp.channels import scratch_channel


class _Properties(Basic.Properties):
    """Properties that go out as given: aiormq would add a random message_id."""

    is_anonymous = False

    def marshal(self) -> bytes:
        if self.is_anonymous:
            self.message_id = None
        return super().marshal()


async def publish(
    connection: AbstractConnection, queue: str, body: bytes = b"{}", *, exchange: str = "", **properties: Any
) -> None:
    """Publish to a queue, or to an exchange with the queue for a key, and wait for the confirm."""
    given = _Properties(**properties)
    given.is_anonymous = not properties.get("message_id")
    async with scratch_channel(connection, has_confirms=True) as channel:
        await channel.basic_publish(body, exchange=exchange, routing_key=queue, properties=given)


async def peek(channel: Channel, queue: str, limit: int) -> AsyncIterator[DeliveredMessage]:
    """Fetch up to so many messages; they go back when the channel closes."""
    for _ in range(limit):
        message = await channel.basic_get(queue)
        if message.delivery_tag is None:
            return
        yield message
