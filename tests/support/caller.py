"""A publisher that speaks raw AMQP: what any language would do, and a look at every queue."""

from __future__ import annotations

import asyncio
import json
import secrets
from types import TracebackType
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

_PATIENCE_SECONDS = 20.0


class Caller:
    """Publishes jobs and waits for replies and dead letters."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self.namespace = namespace
        self.reply_queue = ""
        self.answered: set[int] = set()
        self._replies: dict[str | None, list[AbstractIncomingMessage]] = {}
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        queue = await self._channel.declare_queue(exclusive=True)
        self.reply_queue = queue.name
        await queue.consume(self._take, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def publish(self, lane: str, body: Any, **properties: Any) -> str:
        """Publish a job; return its correlation id."""
        properties.setdefault("correlation_id", secrets.token_hex(8))
        properties.setdefault("reply_to", self.reply_queue)
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = aio_pika.Message(encoded, **properties)
        await self._channel.default_exchange.publish(message, routing_key=f"{self.namespace}.{lane}")
        return str(properties["correlation_id"])

    async def reply(
        self, correlation_id: str | None, *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> AbstractIncomingMessage:
        """Wait for the first reply of a job that was not taken yet."""
        async with asyncio.timeout(patience_seconds), self._arrived:
            await self._arrived.wait_for(lambda: self._replies.get(correlation_id))
            return self._replies[correlation_id].pop(0)

    def waiting(self, correlation_id: str | None) -> int:
        """Return how many replies of a job have come and were not taken."""
        return len(self._replies.get(correlation_id, []))

    @property
    def unread(self) -> list[str | None]:
        """The correlation ids of the replies that have come and were not taken, once for each."""
        return [correlation_id for correlation_id, replies in self._replies.items() for _ in replies]

    async def call(self, lane: str, body: Any, **properties: Any) -> dict[str, Any]:
        """Publish a job and return its reply's body."""
        correlation_id = await self.publish(lane, body, **properties)
        return dict(json.loads((await self.reply(correlation_id)).body))

    async def create(self, signature: Any, **args: Any) -> dict[str, Any]:
        """Create a program; return the result."""
        reply = await self.call("create", {"args": {"signature": signature, "fallback": "never", **args}})
        assert reply["success"], reply
        return dict(reply["result"])

    async def dead_letter(self, lane: str) -> AbstractIncomingMessage:
        """Wait for one dead letter and take it."""
        found: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()

        async def take(message: AbstractIncomingMessage) -> None:
            if not found.done():
                found.set_result(message)
                await message.ack()

        channel = await self._connection.channel()
        try:
            await channel.set_qos(prefetch_count=1)
            queue = await channel.get_queue(f"{self.namespace}.{lane}.dead", ensure=False)
            await queue.consume(take)
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await found
        finally:
            await channel.close()

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue of the namespace."""
        channel = await self._connection.channel()
        try:
            declared = await channel.declare_queue(f"{self.namespace}.{queue}", passive=True)
            return int(declared.declaration_result.message_count or 0)
        finally:
            await channel.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        async with self._arrived:
            if (message.correlation_id or "").isdecimal():
                self.answered.add(int(message.correlation_id or ""))
            self._replies.setdefault(message.correlation_id, []).append(message)
            self._arrived.notify_all()
