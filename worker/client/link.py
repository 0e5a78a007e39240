"""One connection with direct reply-to, kept alive while it is wanted.

Every request waits in ``_calls`` under its correlation id until its reply comes. After a lost connection the link
connects again, consumes the pseudo-queue again (the broker gives each channel its own reply address) and publishes
what still waits: same message id, so the worker answers from its store what has run already. A reply whose
correlation id no longer waits is dropped, which makes repeated replies harmless.

See Also:
    https://www.rabbitmq.com/docs/direct-reply-to: consume first, publish on the same channel, no acknowledgements.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from yarl import URL

from worker.client.errors import ClientError
from worker.client.losses import as_connection_error, refusal
from worker.client.request import DIRECT_REPLY_TO, Request, Route, fresh_id
from worker.urls import check_verified

Raw = tuple[bytes, Mapping[str, Any]]

_CONNECT_SECONDS = 10.0
_HEARTBEAT_SECONDS = 20
_WAIT_INITIAL_SECONDS = 0.1
_WAIT_MAX_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Call:
    """A request under way.

    Attributes:
        route: Where it goes.
        request: What is sent.
        reply: Body and headers of its reply; where no reply is asked for, nothing, once the broker has confirmed it.
        sent: Set when it is published for the first time, or fails before.
        until: Loop time at which its bound ends; None before it is sent, and where it has no bound.
        is_over: Whether its caller has stopped to wait.
    """

    route: Route
    request: Request
    reply: asyncio.Future[Raw]
    sent: asyncio.Event
    until: float | None = None
    is_over: bool = False

    def confirm(self) -> None:
        """End it without a reply, if none was to come over this connection."""
        if not self.request.is_answered_here and not self.reply.done():
            self.reply.set_result((b"", {}))

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.reply.done():
            self.reply.set_exception(error)
        self.sent.set()

    def stamped(self, *, now_seconds: float, loop_seconds: float) -> aio_pika.Message:
        """Return its message; the bound runs from the first time that this is asked."""
        bound = self.request.bound_seconds
        if self.until is None and bound is not None:
            self.until = loop_seconds + bound
        left_seconds = None if self.until is None else max(0.0, self.until - loop_seconds)
        self.sent.set()
        return self.request.message(now_seconds=now_seconds, left_seconds=left_seconds)


class Link:
    """Send requests and match their replies over one connection.

    Args:
        url: ``amqp://`` or ``amqps://`` URL of the broker.
        name: What the broker's management page shows as the connection's name.
        ssl_context: For ``amqps://``; by default one that trusts the system's CAs, and the files that the URL names.

    Raises:
        ValueError: The URL says that the broker's certificate is not to be verified.
    """

    def __init__(self, url: str, *, name: str, ssl_context: ssl.SSLContext | None = None) -> None:
        check_verified(url)
        self._url = _with_heartbeat(url)
        self._name = name
        self._ssl_context = ssl_context
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._is_up = asyncio.Event()
        self._calls: dict[str, Call] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and keep connected from now on.

        Raises:
            ConnectionError: The broker cannot be reached or refuses the login.
        """
        self._keeper = asyncio.create_task(self._keep(await self._connect()))

    async def close(self) -> None:
        """Disconnect; calls that still wait fail with `ClientError`."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        for call in self._calls.values():
            call.fail(ClientError("The client was closed before the reply came"))
        await self._disconnect()
        for task in list(self._publishing):
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)

    @contextlib.contextmanager
    def calling(self, route: Route, request: Request) -> Iterator[Call]:
        """Publish a request, and again after a lost connection, while the block lasts and nothing has answered it.

        Raises:
            ClientError: The link is closed.
        """
        self.check_open()
        call = Call(route, request, asyncio.get_running_loop().create_future(), asyncio.Event())
        key = request.correlation_id if request.is_answered_here else fresh_id()
        self._calls[key] = call
        # While the link is down there is nothing to do here: the keeper publishes all that waits.
        if self._channel is not None:
            self._spawn(self._publish(call, self._channel))
        try:
            yield call
        finally:
            call.is_over = True
            self._calls.pop(key, None)

    async def count_consumers(self, queue: str) -> int | None:
        """Return how many consumers a queue has, or None where there is no such queue.

        Waits while the link is down. The passive declare runs on a channel of its own, since a 404 closes it.

        Raises:
            ConnectionError: The broker does not tell: the connection was lost, or this user may not ask.
            ClientError: The link was closed.
        """
        connection = await self._when_up()
        with as_connection_error():
            async with connection.channel(publisher_confirms=False) as channel:
                try:
                    declared = await channel.declare_queue(queue, passive=True)
                except ChannelNotFoundEntity:
                    return None
                return declared.declaration_result.consumer_count

    async def _keep(self, channel: AbstractChannel) -> None:
        """Connect again whenever the channel is gone, and publish what still waits for its reply."""
        while True:
            await channel.closed()
            await self._disconnect()
            channel = await self._connect_again()
            for call in list(self._calls.values()):
                self._spawn(self._publish(call, channel))

    async def _when_up(self) -> AbstractConnection:
        while self._connection is None:
            self.check_open()
            await self._is_up.wait()
        return self._connection

    def check_open(self) -> None:
        """Raise `ClientError` if the link is closed."""
        if self._keeper is None:
            raise ClientError("The client is not open")

    async def _connect_again(self) -> AbstractChannel:
        """Attempt *n* waits up to ``min(5, 0.1 · 2**n)`` seconds, with full jitter, so that clients do not come at once."""
        wait_seconds = _WAIT_INITIAL_SECONDS
        while True:
            await asyncio.sleep(random.uniform(0, wait_seconds))  # noqa: S311 - jitter, no secret
            with contextlib.suppress(ConnectionError):
                return await self._connect()
            wait_seconds = min(_WAIT_MAX_SECONDS, wait_seconds * 2)

    async def _connect(self) -> AbstractChannel:
        properties: dict[str, Any] = {"connection_name": self._name}
        with as_connection_error():
            connection = await aio_pika.connect(
                self._url, timeout=_CONNECT_SECONDS, client_properties=properties, ssl_context=self._ssl_context
            )
        try:
            channel = await _consume_replies(connection, self._take)
        except BaseException:
            await _close(connection)
            raise
        self._connection, self._channel = connection, channel
        self._is_up.set()
        return channel

    async def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._is_up.clear()
        if connection is not None:
            await _close(connection)

    async def _publish(self, call: Call, channel: AbstractChannel) -> None:
        if call.is_over or call.reply.done():
            return  # What is published now would run for nobody, or twice.
        try:
            message = call.stamped(now_seconds=time.time(), loop_seconds=asyncio.get_running_loop().time())
            exchange = await channel.get_exchange(call.route.exchange, ensure=False)
            await exchange.publish(message, call.route.routing_key, mandatory=True)
        except Exception as error:  # noqa: BLE001 - neither the codec's errors nor those of a lost connection have one class
            refused = refusal(error, call.route, size=len(call.request.body))
            if refused is not None:
                call.fail(refused)
            elif not channel.is_closed and not _is_about_channel(error):
                call.fail(ClientError(f"The request cannot be sent: {error}"))
            # Else it is lost or unknown: the keeper publishes it again.
        else:
            call.confirm()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        call = self._calls.pop(message.correlation_id or "", None)
        if call is not None and not call.reply.done():
            call.reply.set_result((message.body, message.headers))

    def _spawn(self, publishing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(publishing)
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)


async def _consume_replies(
    connection: AbstractConnection, take: Callable[[AbstractIncomingMessage], Awaitable[None]]
) -> AbstractChannel:
    with as_connection_error():
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        replies = await channel.get_queue(DIRECT_REPLY_TO, ensure=False)
        await replies.consume(take, no_ack=True)
        return channel


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(ConnectionError), as_connection_error():
        await connection.close()


def _is_about_channel(error: Exception) -> bool:
    return isinstance(error, ChannelNotFoundEntity | ChannelAccessRefused | ChannelPreconditionFailed)


def _with_heartbeat(url: str) -> URL:
    """Ask for heartbeats often enough to notice a dead connection, unless the URL says how often."""
    parsed = URL(url)
    return parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=_HEARTBEAT_SECONDS)
