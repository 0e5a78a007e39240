"""A dead-letter queue: count it, look into it, and hold its lock.

Messages are fetched without an ack and go back when the channel closes. It counts as a delivery, so dead-letter
queues have a limit that nobody reaches by looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelLockedResource, ChannelNotFoundEntity

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import RPC_SECONDS, losses, user_of
from worker.amqp.dead_letters.letters import DeadLetterView, view
from worker.amqp.dead_letters.selection import EVERYTHING, Selection
from worker.amqp.errors import ConnectionLostError, ReplayLockedError
from worker.amqp.topology import Topology, measure
from worker.message import LANES, Lane

# Messages that are sent ahead of the one looked at. 5,000 letters fetched one by one took 39 s on two busy cores.
WINDOW = 100


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
class Source:
    """A dead-letter queue that is worked on.

    Attributes:
        queue: Its full name.
        lane: The lane whose jobs it holds.
        work_queue: Where these jobs came from.
        exchange: The way back there, with the lane as routing key: an operator of least rights may not publish to the
            default exchange, which reaches every queue.
        lock: Name of the exclusive queue that is its lock.
        user_id: Broker user of the connection.
        trusted_users: Whose headers count: the connection's own user, the workers' and the operators'.
    """

    queue: str
    lane: Lane
    work_queue: str
    exchange: str
    lock: str
    user_id: str
    trusted_users: frozenset[str]

    @classmethod
    def of(
        cls, connection: AbstractConnection, topology: Topology, *, lane: Lane, trusted_users: Collection[str]
    ) -> Source:
        """Name what belongs to a lane's dead letters."""
        queue = topology.dead_queue(lane)
        # aio-pika's abstract connection does not name its URL; both of its real ones have it.
        user_id = user_of(str(getattr(connection, "url", "")))
        return cls(
            queue=queue,
            lane=lane,
            work_queue=topology.work_queue(lane),
            exchange=topology.exchange,
            lock=topology.replay_lock(queue),
            user_id=user_id,
            trusted_users=frozenset((user_id, *trusted_users)),
        )

    def view(self, message: DeliveredMessage) -> DeadLetterView:
        """Read one of its letters."""
        return view(message, trusted_users=self.trusted_users)


async def list_dead(connection: AbstractConnection, topology: Topology) -> list[DeadQueue]:
    """Count the dead letters of every lane."""
    queues = []
    for lane in LANES:
        depth = await measure(connection, topology.dead_queue(lane))
        queues.append(DeadQueue(topology.dead_queue(lane), lane, None if depth is None else depth[0]))
    return queues


async def show(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    *,
    limit: int = 20,
    selection: Selection = EVERYTHING,
    trusted_users: Collection[str] = (),
) -> list[DeadLetterView]:
    """Look at the oldest dead letters of a lane that are meant; they stay where they are.

    Args:
        connection: To the broker.
        topology: The namespace.
        lane: Whose dead letters.
        limit: At most so many.
        selection: Which ones; all by default.
        trusted_users: Broker users whose headers count, beside the connection's own.

    Raises:
        ConnectionLostError: The broker did not answer.
    """
    source = Source.of(connection, topology, lane=lane, trusted_users=trusted_users)
    found: list[DeadLetterView] = []
    depth = await depth_of(connection, source)
    if selection == EVERYTHING:
        depth = min(depth, limit)
    async with scratch_channel(connection) as channel:
        async with aclosing(browse(channel, source.queue, depth)) as messages:
            async for message in messages:
                letter = source.view(message)
                if selection.takes(letter):
                    found.append(letter)
                if len(found) == limit:
                    break
        await put_back(channel)
    return found


async def depth_of(connection: AbstractConnection, source: Source) -> int:
    """Return how many letters are there now; 0 where there is no queue."""
    depth = await measure(connection, source.queue)
    return depth[0] if depth else 0


async def browse(channel: Channel, queue: str, limit: int) -> AsyncGenerator[DeliveredMessage]:
    """Look at up to ``limit`` messages quickly; they go back when the channel closes.

    None of them may be acked before the generator is closed: the broker would send others than were asked for.
    """
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    for start in range(0, limit, WINDOW):
        size = min(WINDOW, limit - start)
        with losses():
            await channel.basic_qos(prefetch_count=size, timeout=RPC_SECONDS)
            consumer = await channel.basic_consume(queue, arrived.put, timeout=RPC_SECONDS)
        try:
            for _ in range(size):
                message = await _next(arrived)
                if message is None:
                    return
                yield message
        finally:
            with suppress(ConnectionLostError), losses():
                await channel.basic_cancel(str(consumer.consumer_tag), timeout=RPC_SECONDS)


async def peek(channel: Channel, queue: str, limit: int) -> AsyncGenerator[DeliveredMessage]:
    """Fetch up to ``limit`` messages, each when it is asked for; what is not acked goes back when the channel closes."""
    for _ in range(limit):
        try:
            with losses(ChannelNotFoundEntity):
                message = await channel.basic_get(queue, timeout=RPC_SECONDS)
        except ChannelNotFoundEntity:
            return
        if message.delivery_tag is None:
            return
        yield message


async def put_back(channel: Channel) -> None:
    """Return all that was looked at; what the same channel asks for next comes after it.

    A channel that is closed returns them too, but some time later.
    """
    with losses():
        await channel.basic_nack(0, multiple=True, requeue=True)


async def _next(arrived: asyncio.Queue[DeliveredMessage]) -> DeliveredMessage | None:
    """Return the next message; None where somebody else has taken it, or the channel is gone."""
    try:
        async with asyncio.timeout(RPC_SECONDS):
            return await arrived.get()
    except TimeoutError:
        return None


@asynccontextmanager
async def locked(connection: AbstractConnection, source: Source) -> AsyncIterator[None]:
    """Hold the lock of a queue: an exclusive queue, which the broker frees if this process dies.

    Raises:
        ReplayLockedError: Another replay or purge holds it.
    """
    async with scratch_channel(connection) as channel:
        try:
            with losses(ChannelLockedResource):
                await channel.queue_declare(source.lock, exclusive=True, timeout=RPC_SECONDS)
        except ChannelLockedResource as error:
            raise ReplayLockedError(f"Another replay or purge of {source.queue} is running.") from error
        try:
            yield
        finally:
            with suppress(ConnectionLostError), losses():
                await channel.queue_delete(source.lock, timeout=RPC_SECONDS)
