"""Queues, exchanges and bindings of one namespace, as a value; `declare` only sends it.

==========================  ==========================================================================================
name                        what it is
==========================  ==========================================================================================
``<ns>``                    direct exchange; keys ``create``, ``execute``, ``control``
``<ns>.<lane>``             work queue: quorum, delivery limit 100 as the last net, at-least-once to ``<ns>.dead``
``<ns>.dead``               direct exchange; the key is the work queue's name
``<ns>.<lane>.dead``        dead letters: quorum, no TTL, bounded in bytes, refuses what does not fit
``<ns>.delay.<ms>``         one step of the ladder: fanout exchange and quorum queue with a TTL, back to the work
                            queue by the message's own routing key
==========================  ==========================================================================================

A work queue never dead-letters into the ladder: RabbitMQ drops a message on a dead-letter cycle without a reject.

See Also:
    docs/RELIABILITY.md: each argument's reason, measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.base import Frame
from pamqp.commands import Exchange as Exchanges
from pamqp.commands import Queue as Queues

from worker.amqp.channels import close_quietly, open_channel, scratch_channel
from worker.amqp.connection import RPC_SECONDS, losses
from worker.amqp.differences import read_difference
from worker.amqp.errors import ConnectionLostError, TopologyError
from worker.message import LANES, Lane

DEFAULT_DELAYS_MS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
DEFAULT_DEAD_LETTER_MAX_BYTES = 1024**3
# The last net only: -1 loses the message at its first nack on RabbitMQ 3.10.
WORK_DELIVERY_LIMIT = 100
# A look at a dead letter counts as a delivery, and over the limit it would be dropped.
DEAD_DELIVERY_LIMIT = 1_000_000_000

# How the broker answers what differs, or what this user may not declare.
_REFUSALS = (ChannelPreconditionFailed, ChannelAccessRefused)
_AT_LEAST_ONCE = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; ``kind`` is ``direct`` or ``fanout``."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with its exact arguments; another value of any of them is another queue to RabbitMQ."""

    name: str
    arguments: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Binding:
    """``exchange`` sends what carries ``routing_key`` to ``queue``."""

    queue: str
    exchange: str
    routing_key: str


_Item = Exchange | Queue | Binding


@dataclass(frozen=True, slots=True)
class Topology:
    """All names and arguments of a namespace.

    Attributes:
        namespace: First part of every name.
        delays_ms: Steps of the delay ladder in milliseconds, ascending.
        dead_letter_max_bytes: Bound of each dead-letter queue.
    """

    namespace: str
    delays_ms: tuple[int, ...] = DEFAULT_DELAYS_MS
    dead_letter_max_bytes: int = DEFAULT_DEAD_LETTER_MAX_BYTES

    @classmethod
    def of(
        cls,
        *,
        namespace: str,
        delays_ms: Iterable[int] = DEFAULT_DELAYS_MS,
        dead_letter_max_bytes: int = DEFAULT_DEAD_LETTER_MAX_BYTES,
    ) -> Topology:
        """Build the topology of a namespace."""
        return cls(namespace, tuple(delays_ms), dead_letter_max_bytes)

    @property
    def exchange(self) -> str:
        """The exchange that senders may use in place of the default one."""
        return self.namespace

    @property
    def dead_exchange(self) -> str:
        """Where work queues dead-letter to."""
        return f"{self.namespace}.dead"

    def work_queue(self, lane: Lane) -> str:
        """Return the name of a lane's work queue."""
        return f"{self.namespace}.{lane}"

    def dead_queue(self, lane: Lane) -> str:
        """Return the name of a lane's dead-letter queue."""
        return f"{self.namespace}.{lane}.dead"

    def delay_name(self, delay_ms: int) -> str:
        """Return the name of a ladder step, of its exchange and its queue alike."""
        return f"{self.namespace}.delay.{delay_ms}"

    def replay_lock(self, queue: str) -> str:
        """Return the name of the exclusive queue that a replay of ``queue`` holds."""
        return f"{self.namespace}.replay-lock.{queue.removeprefix(self.namespace + '.')}"

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every exchange."""
        delays = (Exchange(self.delay_name(delay), "fanout") for delay in self.delays_ms)
        return (Exchange(self.exchange, "direct"), Exchange(self.dead_exchange, "direct"), *delays)

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Every queue with its arguments."""
        lanes = (queue for lane in LANES for queue in (self._dead(lane), self._work(lane)))
        return (*lanes, *(self._delay(delay) for delay in self.delays_ms))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Every binding."""
        work = (Binding(self.work_queue(lane), self.exchange, lane) for lane in LANES)
        dead = (Binding(self.dead_queue(lane), self.dead_exchange, self.work_queue(lane)) for lane in LANES)
        names = (self.delay_name(delay) for delay in self.delays_ms)
        return (*work, *dead, *(Binding(name, name, "") for name in names))

    def _work(self, lane: Lane) -> Queue:
        return _quorum(
            self.work_queue(lane),
            {
                "x-delivery-limit": WORK_DELIVERY_LIMIT,
                "x-dead-letter-exchange": self.dead_exchange,
                "x-dead-letter-routing-key": self.work_queue(lane),
                **_AT_LEAST_ONCE,
            },
        )

    def _dead(self, lane: Lane) -> Queue:
        return _quorum(
            self.dead_queue(lane),
            {
                "x-delivery-limit": DEAD_DELIVERY_LIMIT,
                "x-max-length-bytes": self.dead_letter_max_bytes,
                "x-overflow": "reject-publish",
            },
        )

    def _delay(self, delay_ms: int) -> Queue:
        arguments: dict[str, str | int] = {"x-message-ttl": delay_ms, "x-dead-letter-exchange": "", **_AT_LEAST_ONCE}
        return _quorum(self.delay_name(delay_ms), arguments)


async def declare(topology: Topology, connection: AbstractConnection) -> None:
    """Declare everything; what is already there must match to the letter.

    All of it is one round trip, whatever the latency, where the broker has nothing to say against it. Otherwise
    everything is tried by itself before anything is reported, each on a channel that the broker may close.

    Raises:
        TopologyError: Something differs or may not be declared; one sentence a line: queue, argument, have, want, mend.
        ConnectionLostError: The connection was lost on the way.
    """
    items: list[_Item] = [*topology.exchanges, *topology.queues, *topology.bindings]
    try:
        async with scratch_channel(connection) as channel:
            await _send_at_once(items, channel)
    except (ConnectionLostError, *_REFUSALS):
        await _declare_one_by_one(items, connection)


async def _send_at_once(items: Sequence[_Item], channel: Channel) -> None:
    """Ask for no answer but the last: the broker takes them in order, and closes the channel at the first refusal."""
    with losses(*_REFUSALS):
        for item in items[:-1]:
            await _send(item, channel, is_answered=False)
        await _send(items[-1], channel)


async def _declare_one_by_one(items: Sequence[_Item], connection: AbstractConnection) -> None:
    problems: list[str] = []
    channel = await open_channel(connection)
    for item in items:
        if problems and isinstance(item, Binding):
            break
        try:
            with losses(*_REFUSALS):
                await _send(item, channel)
        except _REFUSALS as error:
            problems.append(_sentence(str(error)))
            channel = await open_channel(connection)
    await close_quietly(channel)
    if problems:
        raise TopologyError("\n".join(problems))


async def remove(topology: Topology, connection: AbstractConnection) -> None:
    """Delete every queue and exchange of a namespace with all messages in them; meant for throw-away namespaces."""
    async with scratch_channel(connection) as channel:
        with losses():
            await _delete_all(topology, channel)


async def _delete_all(topology: Topology, channel: Channel) -> None:
    for queue in topology.queues:
        await channel.queue_delete(queue.name, timeout=RPC_SECONDS)
    for exchange in topology.exchanges:
        await channel.exchange_delete(exchange.name, timeout=RPC_SECONDS)


async def count_consumers(connection: AbstractConnection, queue: str) -> int | None:
    """Return how many consumers a queue has, or None where there is no such queue."""
    depth = await measure(connection, queue)
    return None if depth is None else depth[1]


async def measure(connection: AbstractConnection, queue: str) -> tuple[int, int] | None:
    """Return the ready messages and the consumers of a queue, or None where there is no such queue."""
    async with scratch_channel(connection) as channel:
        try:
            with losses(ChannelNotFoundEntity):
                found = await channel.queue_declare(queue, passive=True, timeout=RPC_SECONDS)
        except ChannelNotFoundEntity:
            return None
    return int(found.message_count or 0), int(found.consumer_count or 0)


def _quorum(name: str, arguments: Mapping[str, str | int]) -> Queue:
    return Queue(name, {"x-queue-type": "quorum", **arguments})


async def _send(item: _Item, channel: Channel, *, is_answered: bool = True) -> None:
    frame: Frame
    match item:
        case Exchange(name, kind):
            frame = Exchanges.Declare(exchange=name, exchange_type=kind, durable=True, nowait=not is_answered)
        case Queue(name, arguments):
            frame = Queues.Declare(queue=name, durable=True, arguments=dict(arguments), nowait=not is_answered)
        case Binding(queue, exchange, key):
            frame = Queues.Bind(queue=queue, exchange=exchange, routing_key=key, nowait=not is_answered)
    await channel.rpc(frame, timeout=RPC_SECONDS)


def _sentence(reply_text: str) -> str:
    """Say what differs and how to mend it."""
    found = read_difference(reply_text)
    if found is None:
        return f"The broker refuses a part of the topology: {reply_text}{_mend_access(reply_text)}"
    return (
        f"The {found.kind} {found.name} has {found.argument} = {found.have}, this worker wants {found.want}. "
        f"{_mend(found.kind)}"
    )


def _mend(kind: str) -> str:
    return f"Empty the {kind}, delete it and start the worker again, or use another DSPEX_NAMESPACE."


def _mend_access(reply_text: str) -> str:
    if "ACCESS_REFUSED" not in reply_text:
        return ""
    return ". Give the user the rights of a worker (docs/SECURITY.md); `dspex-worker doctor` names what is missing."
