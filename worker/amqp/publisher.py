"""Publish replies, retries and dead letters, each until the broker has answered.

A confirm that does not come means unknown: the message is published again under the same ``message_id``, and whoever
receives it twice can tell. Replies have a channel of their own, so a reply that the broker refuses by closing the
channel disturbs no retry and no dead letter.

See Also:
    docs/RELIABILITY.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed, DeliveryError
from pamqp.commands import Basic
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_never

from worker import telemetry
from worker.amqp.callers import Callers
from worker.amqp.channels import close_quietly, open_channel, scratch_channel
from worker.amqp.clock import now_ms
from worker.amqp.connection import Link, losses, ready, user_of
from worker.amqp.copies import Sender, dead_letter_copy, delay_copy, reply_properties
from worker.amqp.errors import (
    ConnectionLostError,
    DeadLetterRefusedError,
    RefusedByBrokerError,
    ReplyTooLargeError,
    TopologyError,
)
from worker.amqp.incoming import Incoming
from worker.amqp.topology import Topology, declare
from worker.message import DIRECT_REPLY_TO, Delay, Letter, Reply, too_large
from worker.settings import Settings

CONFIRM_SECONDS = 30.0
REFUSED_REPLY_ATTEMPTS = 3
# The broker closes the channel at a publish that it will never take: no right to it, or a property or size it forbids.
_REFUSALS = (ChannelAccessRefused, ChannelPreconditionFailed)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One publish.

    Attributes:
        exchange: Where to; empty for the default exchange.
        routing_key: Queue name, with the default exchange.
        body: As it goes out.
        properties: With a ``message_id``: by it a returned message is told from a taken one.
        is_mandatory: Whether the broker returns it when no queue takes it.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: Basic.Properties
    is_mandatory: bool = True


class Publisher:
    """Publishes on a connection of its own, which the broker may block without stopping what is consumed.

    Attributes:
        callers: Tells on the same connection whether a caller is still there.
    """

    def __init__(self, settings: Settings, topology: Topology, *, worker_id: str) -> None:
        url = settings.broker_url
        self._topology = topology
        has_tenants = settings.tenancy == "user_id"
        self._sender = Sender(user_id=user_of(url), worker_id=worker_id, has_tenants=has_tenants)
        self._link = Link(url, name=f"{worker_id} publish")
        self._replies = Outlet(self._link, topology=topology)
        self._copies = Outlet(self._link, topology=topology)
        self.callers = Callers(self._link)

    @property
    def is_blocked(self) -> bool:
        """Whether an alarm of the broker holds publishes back."""
        return self._link.is_blocked

    @property
    def is_ready(self) -> bool:
        """Whether publishes are taken now: connected, and not held back by an alarm of the broker."""
        return self._link.is_open and not self._link.is_blocked

    async def start(self) -> None:
        """Connect, however long the broker is away; what is published before waits likewise."""
        await self._link.connection()

    async def close(self) -> None:
        """Close the connection; call it when nothing is published any more."""
        await self._link.close()

    async def unblocked(self) -> None:
        """Wait while an alarm of the broker holds publishes back: what is begun then could not be answered."""
        while self._link.is_blocked:
            with suppress(ConnectionLostError), losses():
                await ready(await self._link.connection())

    async def reply(self, reply: Reply) -> bool:
        """Publish a reply, and tell whether a queue took it.

        RabbitMQ returns a mandatory message to a direct reply-to address although it delivers it, so those are
        published without, and count as taken.

        Raises:
            ReplyTooLargeError: It is larger than any reply may be, or than this broker takes.
        """
        problem = too_large(reply.body)
        if problem is not None:
            raise ReplyTooLargeError(problem)
        parcel = Parcel(
            exchange="",
            routing_key=reply.reply_to,
            body=reply.body,
            properties=reply_properties(reply),
            is_mandatory=not reply.reply_to.startswith(DIRECT_REPLY_TO),
        )
        try:
            return await self._replies.send(parcel, refusals=REFUSED_REPLY_ATTEMPTS)
        except ChannelPreconditionFailed as error:
            # Of what can be wrong here (size, user_id, expiration) a reply has but a size.
            raise ReplyTooLargeError(
                f"the broker does not take a reply of {len(reply.body):,} bytes: {error}"
            ) from None
        except (RefusedByBrokerError, ChannelAccessRefused) as error:
            _log.error("reply.refused", reply_to=reply.reply_to, reason=str(error))
            return False

    async def delay(self, incoming: Incoming, delay: Delay) -> None:
        """Copy a message to a step of the delay ladder; it comes back to its work queue after that time."""
        properties = delay_copy(incoming, trail=delay.trail, sender=self._sender, now_ms=now_ms())
        exchange = self._topology.delay_name(delay.delay_ms)
        await self._deliver(Parcel(exchange, incoming.queue, incoming.message.body, properties), refusals=None)

    async def dead_letter(self, incoming: Incoming, letter: Letter, *, lm: str | None = None) -> None:
        """Copy a message to its dead-letter queue.

        Args:
            incoming: The message.
            letter: Why it failed.
            lm: Alias of the LM that the job used, or None where it did not come to that.

        Raises:
            DeadLetterRefusedError: The queue is full; nothing was lost, the original is still unsettled.
        """
        properties = dead_letter_copy(incoming, letter=letter, sender=self._sender, now_ms=now_ms(), lm=lm)
        parcel = Parcel(self._topology.dead_exchange, incoming.queue, incoming.message.body, properties)
        try:
            await self._deliver(parcel, refusals=1)
        except RefusedByBrokerError as error:
            telemetry.DEAD_LETTERS_REFUSED.inc()
            raise DeadLetterRefusedError(f"The dead-letter queue of {incoming.queue} is full: {error}") from error

    async def _deliver(self, parcel: Parcel, *, refusals: int | None) -> None:
        """Send a copy until a queue has it: where none takes it, the topology is declared again first."""
        pause = wait_random_exponential(multiplier=0.5, max=5)
        attempt = AsyncRetrying(
            retry=retry_if_exception_type(_UnroutableError), wait=pause, before_sleep=_report_unroutable
        )
        await attempt(self._deliver_once, parcel, refusals)

    async def _deliver_once(self, parcel: Parcel, refusals: int | None) -> None:
        if not await self._copies.send(parcel, refusals=refusals):
            await self._copies.close()
            raise _UnroutableError(parcel.exchange)


class Outlet:
    """A channel with publisher confirms that is opened again after it was lost.

    The topology is declared each time, so what somebody deleted is there again.
    """

    def __init__(self, link: Link, *, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        # aiormq finds a returned message by its message_id, so two of one id must not be under way at once.
        self._ids: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(self, parcel: Parcel, *, refusals: int | None) -> bool:
        """Publish until the broker answers, and tell whether a queue took the message.

        Args:
            parcel: What to publish.
            refusals: How many nacks to take for an answer; None for no number of them.

        Raises:
            RefusedByBrokerError: The broker nacked it so often.
            aiormq.exceptions.ChannelAccessRefused, aiormq.exceptions.ChannelPreconditionFailed: The broker closes the
                channel at this very message, and would do so each time.
        """
        async with self._alone(parcel.properties.message_id):
            try:
                return await self._send_once(parcel)
            except (ConnectionLostError, RefusedByBrokerError) as error:
                if refusals == 1 and isinstance(error, RefusedByBrokerError):
                    raise
                return await self._send_again(parcel, refusals)

    async def close(self) -> None:
        """Close the channel; the next message opens another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await close_quietly(channel)

    async def _send_once(self, parcel: Parcel) -> bool:
        channel = await self._open()
        try:
            return await _publish(parcel, channel)
        except _REFUSALS:
            # The closing hits everything that is under way here; a channel of its own tells whose fault it was.
            async with scratch_channel(await self._link.connection(), has_confirms=True) as own:
                return await _publish(parcel, own)

    async def _send_again(self, parcel: Parcel, refusals: int | None) -> bool:
        """Go on where the first attempt failed: attempt n waits U(0, min(5, 0.1 · 2**n)) seconds, lost ones for ever."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type((ConnectionLostError, RefusedByBrokerError)),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            stop=stop_never if refusals is None else _StopAfterRefusals(refusals - 1),
            before=_count_retry,
            reraise=True,
        )
        return await attempts(self._send_when_ready, parcel)

    async def _send_when_ready(self, parcel: Parcel) -> bool:
        # While an alarm holds publishes back, each further one would land as a duplicate when it ends.
        with losses():
            await ready(await self._link.connection())
        return await self._send_once(parcel)

    async def _open(self) -> Channel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                connection = await self._link.connection()
                try:
                    await declare(self._topology, connection)
                except TopologyError as error:
                    _log.error("topology.differs", problems=str(error))
                self._channel = await open_channel(connection, has_confirms=True)
            return self._channel

    @asynccontextmanager
    async def _alone(self, message_id: str | None) -> AsyncIterator[None]:
        lock = self._ids.setdefault(message_id or "", asyncio.Lock())
        async with lock:
            yield


async def _publish(parcel: Parcel, channel: Channel) -> bool:
    """Publish on a channel, and tell whether a queue took the message."""
    try:
        with losses(*_REFUSALS):
            answer = await channel.basic_publish(
                parcel.body,
                exchange=parcel.exchange,
                routing_key=parcel.routing_key,
                properties=parcel.properties,
                mandatory=parcel.is_mandatory,
                timeout=CONFIRM_SECONDS,
            )
    except DeliveryError as error:
        raise RefusedByBrokerError(str(error)) from error
    return not isinstance(answer, DeliveredMessage)


class _UnroutableError(Exception):
    pass


class _StopAfterRefusals(stop_after_attempt):
    """Stop after so many nacks; a lost connection is no answer and never stops."""

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return isinstance(error, RefusedByBrokerError) and super().__call__(retry_state)


def _count_retry(_: RetryCallState) -> None:
    telemetry.PUBLISH_RETRIES.inc()


def _report_unroutable(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.error("copy.unroutable", exchange=str(error))
