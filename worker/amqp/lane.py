"""One work queue: its channel, its consumer, the jobs in hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from worker.amqp.channels import open_channel
from worker.amqp.clock import now_ms
from worker.amqp.connection import RPC_SECONDS, losses
from worker.amqp.emptiness import Emptiness
from worker.amqp.errors import ConnectionLostError
from worker.message import Lane

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LaneEvents:
    """What a lane calls.

    Attributes:
        on_message: With each message.
        on_change: After its consumer or channel was lost.
    """

    on_message: Callable[[DeliveredMessage, LaneConsumer], None]
    on_change: Callable[[], None]


class LaneConsumer:
    """Consumes one work queue on a channel of its own, whose prefetch is the number of jobs in flight.

    Attributes:
        lane: Which lane.
        queue: Its work queue.
        in_flight: Messages in hand now.
    """

    def __init__(self, lane: Lane, *, queue: str, prefetch_count: int, events: LaneEvents) -> None:
        self.lane = lane
        self.queue = queue
        self.in_flight = 0
        self._prefetch_count = prefetch_count
        self._events = events
        self._channel: Channel | None = None
        self._consumer_tag: str | None = None
        self._emptiness = Emptiness()

    @property
    def empty_ms(self) -> int | None:
        """Unix milliseconds at which the queue was last known to be empty, or None."""
        return self._emptiness.known_ms

    def look(self) -> None:
        """Find out whether the queue is empty; for this, look every now and then."""
        self._emptiness.look(now_ms(), has_room=self.is_live and self.in_flight < self._prefetch_count)

    @property
    def is_live(self) -> bool:
        """Whether the broker sends messages here, as far as it has told us."""
        channel = self._channel
        return channel is not None and not channel.is_closed and self._consumer_tag in channel.consumers

    async def consume(self, connection: AbstractConnection) -> None:
        """Start to consume; a channel with messages in hand is kept if it still lives.

        Raises:
            ConnectionLostError: The broker did not start it; the message says what to do about a dead queue.
        """
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._open(connection)
        self._consumer_tag = None
        try:
            with losses():
                self._emptiness.begin(await self._find_empty(self._channel))
                started = await self._channel.basic_consume(self.queue, self._on_message, timeout=RPC_SECONDS)
        except ConnectionLostError as error:
            raise ConnectionLostError(self._explain(error)) from error
        self._consumer_tag = started.consumer_tag

    async def cancel(self) -> None:
        """Stop to consume; messages in hand keep their channel and can still be settled."""
        if self._channel is None or self._consumer_tag is None or not self.is_live:
            return
        tag, self._consumer_tag = self._consumer_tag, None
        try:
            with losses():
                await self._channel.basic_cancel(tag, timeout=RPC_SECONDS)
        except ConnectionLostError as error:
            _log.debug("consumer.gone", queue=self.queue, reason=str(error))

    async def _open(self, connection: AbstractConnection) -> Channel:
        channel = await open_channel(connection)
        with losses():
            await channel.basic_qos(prefetch_count=self._prefetch_count, timeout=RPC_SECONDS)
        channel.on_consumer_cancel_callbacks.add(lambda _: self._events.on_change())
        channel.closing.add_done_callback(lambda _: self._events.on_change())
        return channel

    async def _find_empty(self, channel: Channel) -> int | None:
        """Return the time, if the queue has nothing for us now."""
        asked_ms = now_ms()
        found = await channel.queue_declare(self.queue, passive=True, timeout=RPC_SECONDS)
        return None if found.message_count else asked_ms

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._emptiness.note_delivery()
        self._events.on_message(message, self)

    def _explain(self, error: ConnectionLostError) -> str:
        if not isinstance(error.__cause__, TimeoutError):
            return f"Cannot consume {self.queue}: {error}"
        return (
            f"{self.queue} exists and does not answer, as a quorum queue does that was declared just before its node "
            "was killed. Delete it; the worker declares it again."
        )
