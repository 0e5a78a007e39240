"""The load generator: publishes jobs as raw AMQP, in any language's manner, and takes the replies.

It runs in the benchmark's own process and checks every reply, so nothing that failed passes for fast.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiormq
import orjson
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from benchmarks.errors import MeasurementError

REPLY_SECONDS = 60.0
_WINDOW = 4_000
_DIRECT = "amq.rabbitmq.reply-to"

MakeArgs = Callable[[int], dict[str, Any]]
OnReply = Callable[[], None]


class Load:
    """Publishes to the work queues of a namespace and waits for the replies on an exclusive queue, or by direct reply-to."""

    def __init__(self, url: str, namespace: str, *, is_direct: bool = False) -> None:
        self._url = url
        self._namespace = namespace
        self._is_direct = is_direct
        self._run = secrets.token_hex(4)
        self._sent = 0
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        channel = await self._connection.channel(publisher_confirms=False)
        assert isinstance(channel, Channel)
        self._channel = channel
        self._reply_queue = _DIRECT if self._is_direct else (await channel.queue_declare(exclusive=True)).queue or ""
        await self._channel.basic_consume(self._reply_queue, self._take, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def execute(self, make_args: MakeArgs, *, jobs: int, on_reply: OnReply) -> None:
        """Have ``jobs`` jobs run, all of them waiting in the queue from the start, up to a few thousand.

        Args:
            make_args: Number of a job → its arguments.
            jobs: How many.
            on_reply: Called with each reply.

        Raises:
            MeasurementError: A job failed, or no reply came for a minute.
        """
        free = asyncio.Semaphore(_WINDOW)

        def answered(_: asyncio.Future[dict[str, Any]]) -> None:
            free.release()
            on_reply()

        waiting = []
        for _ in range(jobs):
            async with asyncio.timeout(REPLY_SECONDS):
                await free.acquire()
            number = self._sent
            reply = await self.publish("execute", make_args(number))
            reply.add_done_callback(answered)
            waiting.append(reply)
        await self._all(waiting)

    async def call(self, lane: str, args: dict[str, Any], *, command: str | None = None) -> dict[str, Any]:
        """Publish one job and return its result.

        Raises:
            MeasurementError: It failed, or no reply came for a minute.
        """
        reply = await self.publish(lane, args, command=command)
        await self._all([reply])
        return reply.result()

    async def publish(
        self, lane: str, args: dict[str, Any], *, command: str | None = None
    ) -> asyncio.Future[dict[str, Any]]:
        """Publish one job and return the future of its result."""
        key = f"{self._run}-{self._sent}"
        self._sent += 1
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = reply
        body = {"id": self._sent, "args": args} | ({"command": command} if command else {})
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            correlation_id=key,
            message_id=key,
            reply_to=self._reply_queue,
        )
        await self._channel.basic_publish(
            orjson.dumps(body), routing_key=f"{self._namespace}.{lane}", properties=properties, wait=False
        )
        return reply

    async def purge(self) -> None:
        """Empty the work queues of what a failed measurement has left in them."""
        self._waiting.clear()
        for lane in ("create", "execute", "control"):
            await self._channel.queue_purge(f"{self._namespace}.{lane}")

    async def _all(self, replies: list[asyncio.Future[dict[str, Any]]]) -> None:
        for reply in replies:
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    await reply
            except TimeoutError:
                raise MeasurementError("no reply came for a minute") from None

    async def _take(self, message: DeliveredMessage) -> None:
        properties = message.header.properties
        reply = self._waiting.pop(properties.correlation_id or "", None)
        if reply is None or reply.done():
            return
        document = orjson.loads(message.body)
        if document["success"]:
            reply.set_result(document["result"])
        else:
            reply.set_exception(MeasurementError(f"a job failed: {document['error']}"))
