"""A consumer in the worker's place that answers as it is told, for tests of clients."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

Answer = Callable[["Stand", AbstractIncomingMessage], Awaitable[None]]


class Stand:
    """A consumer that answers as it is told, and keeps what it got."""

    def __init__(self, url: str, queue: str, answer: Answer) -> None:
        self.queue = queue
        self.got: list[AbstractIncomingMessage] = []
        self._url = url
        self._answer = answer

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        queue = await self._channel.declare_queue(self.queue, durable=True)
        namespace, _, lane = self.queue.rpartition(".")
        await queue.bind(await self._channel.declare_exchange(namespace, durable=True), lane)
        await queue.consume(self._take, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self.got.append(message)
        await self._answer(self, message)

    async def reply(
        self, message: AbstractIncomingMessage, document: object, *, headers: dict[str, Any] | None = None
    ) -> None:
        assert message.reply_to is not None
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        copy = aio_pika.Message(body, correlation_id=message.correlation_id, headers=headers or {})
        await self._channel.default_exchange.publish(copy, message.reply_to, mandatory=False)


def success(message: AbstractIncomingMessage, **more: Any) -> dict[str, Any]:
    """Return a reply whose outputs are the inputs."""
    inputs = json.loads(message.body)["args"].get("inputs", {})
    return {"id": None, "success": True, "timestamp": 1.0, "result": {"outputs": inputs, **more}}


async def echo(stand: Stand, message: AbstractIncomingMessage) -> None:
    """Answer with the inputs."""
    await stand.reply(message, success(message))


async def keep_silent(stand: Stand, message: AbstractIncomingMessage) -> None:
    """Take the job and never answer."""
