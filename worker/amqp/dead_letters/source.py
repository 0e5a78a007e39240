"""A dead-letter queue that is worked on: its name, its depth and its lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelLockedResource

from worker.amqp.channels import scratch_channel
from worker.amqp.connection import RPC_SECONDS, losses, user_of
from worker.amqp.dead_letters.letters import DeadLetterView, view
from worker.amqp.errors import ConnectionLostError, ReplayLockedError
from worker.amqp.topology import Topology, measure
from worker.message import Lane


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


async def depth_of(connection: AbstractConnection, source: Source) -> int:
    """Return how many letters are there now; 0 where there is no queue."""
    depth = await measure(connection, source.queue)
    return depth[0] if depth else 0


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
