"""A reply queue of the demo's own, as a publisher without our client would use one."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage


class ReplyQueue:
    """Publish jobs whose replies come to an exclusive queue, however many and however late.

    A client drops a second reply to the same job; here a replayed job's reply is what we wait for.
    """

    def __init__(self, channel: AbstractChannel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._replies: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def publish(self, queue: str, document: Mapping[str, Any]) -> None:
        """Publish one job to a work queue: this is all the AMQP that a publisher needs."""
        message = aio_pika.Message(
            json.dumps(document).encode(),
            message_id=str(uuid.uuid4()),
            correlation_id=uuid.uuid4().hex,
            reply_to=self._name,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._channel.default_exchange.publish(message, queue)

    async def next(self) -> dict[str, Any]:
        """Wait for the next reply."""
        return await self._replies.get()

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Keep a reply that arrived."""
        self._replies.put_nowait(json.loads(message.body))


@asynccontextmanager
async def open_reply_queue(connection: AbstractConnection) -> AsyncIterator[ReplyQueue]:
    """Declare an exclusive queue and consume from it; it is gone when the channel's connection is."""
    async with connection.channel(on_return_raises=True) as channel:
        queue = await channel.declare_queue(exclusive=True)
        replies = ReplyQueue(channel, queue.name)
        await queue.consume(replies.take, no_ack=True)
        yield replies
        await queue.delete(if_unused=False, if_empty=False)
