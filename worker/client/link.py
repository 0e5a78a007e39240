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
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from yarl import URL

from worker.client.errors import ClientError, NoWorkerError
from worker.urls import check_verified

DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"

_CONNECT_SECONDS = 10.0
_HEARTBEAT_SECONDS = 20
_WAIT_INITIAL_SECONDS = 0.1
_WAIT_MAX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    Attributes:
        queue: The queue that is meant.
        exchange: Empty for the default one, which a user of least rights may not publish to.
        routing_key: The key that leads there.
    """

    queue: str
    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    route: Route
    message: aio_pika.Message
    reply: asyncio.Future[bytes]


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
        self._calls: dict[str, _Call] = {}
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
            _fail(call, ClientError("The client was closed before the reply came"))
        await self._disconnect()
        for task in list(self._publishing):
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)

    async def request(self, route: Route, message: aio_pika.Message) -> bytes:
        """Publish a message and return the body of its reply, however long that takes.

        Args:
            route: Where it goes.
            message: With a ``correlation_id`` that no other waiting call has.

        Raises:
            NoWorkerError: There is no such queue or exchange.
            ClientError: The broker refused the message, or the link is closed.
        """
        self._check_open()
        call = _Call(route, message, asyncio.get_running_loop().create_future())
        key = str(message.correlation_id)
        self._calls[key] = call
        # While the link is down there is nothing to do here: the keeper publishes all that waits.
        if self._channel is not None:
            self._spawn(self._publish(call, self._channel))
        try:
            return await call.reply
        finally:
            self._calls.pop(key, None)

    async def count_consumers(self, queue: str) -> int | None:
        """Return how many consumers a queue has, or None where there is no such queue.

        Waits while the link is down. The passive declare runs on a channel of its own, since a 404 closes it.

        Raises:
            ConnectionError: The broker does not tell: the connection was lost, or this user may not ask.
            ClientError: The link was closed.
        """
        connection = await self._when_up()
        with _losses():
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
            self._check_open()
            await self._is_up.wait()
        return self._connection

    def _check_open(self) -> None:
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
        with _losses():
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

    async def _publish(self, call: _Call, channel: AbstractChannel) -> None:
        queue = call.route.queue
        try:
            exchange = await channel.get_exchange(call.route.exchange, ensure=False)
            await exchange.publish(call.message, call.route.routing_key, mandatory=True)
        except PublishError:
            _fail(call, NoWorkerError(f"There is no queue {queue} on the broker"))
        except DeliveryError:
            _fail(call, ClientError(f"The broker refused the request: the queue {queue} is full"))
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            _fail_if_meant(call, error)
        except ChannelPreconditionFailed as error:
            _fail_if_too_large(call, error)
        except Exception as error:  # noqa: BLE001 - neither the codec's errors nor those of a lost connection have one class
            if not channel.is_closed:
                _fail(call, ClientError(f"The request cannot be sent: {error}"))
            # Else it is lost or unknown: the keeper publishes it again.

    async def _take(self, message: AbstractIncomingMessage) -> None:
        call = self._calls.pop(message.correlation_id or "", None)
        if call is not None and not call.reply.done():
            call.reply.set_result(message.body)

    def _spawn(self, publishing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(publishing)
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)


async def _consume_replies(
    connection: AbstractConnection, take: Callable[[AbstractIncomingMessage], Awaitable[None]]
) -> AbstractChannel:
    with _losses():
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        replies = await channel.get_queue(DIRECT_REPLY_TO, ensure=False)
        await replies.consume(take, no_ack=True)
        return channel


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(ConnectionError), _losses():
        await connection.close()


@contextlib.contextmanager
def _losses() -> Iterator[None]:
    """Turn every way in which aiormq tells of a loss into a `ConnectionError`, and lose no cancellation.

    It ends who waits on a connection that goes away with the connection's own error, with a bare Exception, or with a
    CancelledError that nobody asked for; and it may swallow one that the caller did ask for while a channel closes,
    which would leave a call without its time-out.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    loss: BaseException | None = None
    try:
        yield
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - what it means is decided below
        loss = error
    if task is not None and task.cancelling() > cancelled_before:
        raise asyncio.CancelledError from loss
    if isinstance(loss, ConnectionError):
        raise loss
    if loss is not None:
        raise ConnectionError(f"The connection to the broker failed: {loss}") from loss


def _fail_if_meant(call: _Call, error: ChannelNotFoundEntity | ChannelAccessRefused) -> None:
    """Fail a call whose exchange the broker does not have or refuses; others lost their channel by it, no more.

    The broker closes the whole channel and names the exchange; the keeper publishes the others again.
    """
    if f"'{call.route.exchange or 'amq.default'}'" not in str(error):
        return
    if isinstance(error, ChannelNotFoundEntity):
        told = f"There is no exchange {call.route.exchange}: has a worker run in this namespace?"
        _fail(call, NoWorkerError(told))
    else:
        _fail(call, ClientError(f"The broker refuses the request: {error}"))


def _fail_if_too_large(call: _Call, error: ChannelPreconditionFailed) -> None:
    """Fail a call whose body is larger than the broker takes; others lost their channel by it, no more."""
    if f"message size {len(call.message.body)} is larger" in str(error):
        _fail(call, ClientError(f"The broker refuses the request: {error}"))


def _fail(call: _Call, error: Exception) -> None:
    if not call.reply.done():
        call.reply.set_exception(error)


def _with_heartbeat(url: str) -> URL:
    """Ask for heartbeats often enough to notice a dead connection, unless the URL says how often."""
    parsed = URL(url)
    return parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=_HEARTBEAT_SECONDS)
