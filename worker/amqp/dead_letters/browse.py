"""Look at dead letters and leave them where they are: counted by kind, the oldest of them, or one with its body."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from worker.amqp.channels import scratch_channel
from worker.amqp.dead_letters.letters import DeadLetterView
from worker.amqp.dead_letters.plan import OnProgress
from worker.amqp.dead_letters.search import Oldest, look, mark_of, put_back, rank_of, until_back
from worker.amqp.dead_letters.selection import EVERYTHING, Selection
from worker.amqp.dead_letters.source import Source, depth_of
from worker.amqp.topology import Topology, measure
from worker.message import LANES, Lane

# A sender chooses what a letter says, so there may be as many kinds as letters.
MAX_GROUPS = 1_000
# Each with a body of up to 16 MiB.
MAX_FOUND = 20


@dataclass(slots=True)
class Group:
    """Dead letters of one kind.

    Attributes:
        code: Why they failed, or None.
        program_id: Of the jobs, or None.
        lm: Alias of the LM, or None.
        messages: How many.
        oldest_ms: Unix milliseconds of the first failure, or None where no letter tells.
        newest_ms: Of the last one.
    """

    code: str | None
    program_id: str | None
    lm: str | None
    messages: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None

    def add(self, letter: DeadLetterView) -> None:
        """Count one more letter."""
        self.messages += 1
        failed_ms = letter.first_failed_ms
        if failed_ms is not None:
            self.oldest_ms = failed_ms if self.oldest_ms is None else min(self.oldest_ms, failed_ms)
            self.newest_ms = failed_ms if self.newest_ms is None else max(self.newest_ms, failed_ms)


@dataclass(frozen=True, slots=True)
class DeadQueue:
    """A dead-letter queue.

    Attributes:
        name: Its full name.
        lane: The lane whose jobs it holds.
        messages: How many; None where the queue does not exist.
        groups: The letters by kind, the most frequent first.
    """

    name: str
    lane: Lane
    messages: int | None
    groups: list[Group] = field(default_factory=list)


def _ignore(_done: int, _total: int) -> None:
    pass


async def list_dead(
    connection: AbstractConnection,
    topology: Topology,
    *,
    has_groups: bool = True,
    trusted_users: Collection[str] = (),
    on_look: OnProgress = _ignore,
) -> list[DeadQueue]:
    """Count the dead letters of every lane, by code, program and LM; every letter is looked at for that.

    Args:
        connection: To the broker.
        topology: The namespace.
        has_groups: Whether to look at the letters; else they are only counted, and nobody else is held up.
        trusted_users: Broker users whose headers count, beside the connection's own.
        on_look: Gets letters looked at and letters in all, queue by queue.

    Raises:
        ConnectionLostError: The broker did not answer.
    """
    queues = []
    for lane in LANES:
        source = Source.of(connection, topology, lane=lane, trusted_users=trusted_users)
        depth = await measure(connection, source.queue)
        groups = [] if depth is None or not has_groups else await _groups(connection, source, on_look=on_look)
        queues.append(DeadQueue(source.queue, lane, None if depth is None else depth[0], groups))
    return queues


async def show(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    *,
    limit: int = 20,
    selection: Selection = EVERYTHING,
    trusted_users: Collection[str] = (),
    on_look: OnProgress = _ignore,
) -> list[DeadLetterView]:
    """Return the oldest dead letters of a lane that are meant, by time of failure, then id; they stay where they are.

    The whole queue is looked at: the broker promises no order.

    Args:
        connection: To the broker.
        topology: The namespace.
        lane: Whose dead letters.
        limit: At most so many.
        selection: Which ones; all by default.
        trusted_users: Broker users whose headers count, beside the connection's own.
        on_look: Gets letters looked at and letters in all.

    Raises:
        ConnectionLostError: The broker did not answer.
    """
    source = Source.of(connection, topology, lane=lane, trusted_users=trusted_users)
    oldest: Oldest[DeadLetterView] = Oldest(limit)
    async with _looking(connection, source, on_look=on_look) as messages:
        async for message in messages:
            letter = source.view(message)
            if selection.takes(letter):
                oldest.add(rank_of(letter, mark_of(message)), letter)
    return oldest.sorted()


async def find(
    connection: AbstractConnection,
    topology: Topology,
    lane: Lane,
    job_id: str,
    *,
    has_body: bool = False,
    trusted_users: Collection[str] = (),
    on_look: OnProgress = _ignore,
) -> list[tuple[DeadLetterView, bytes | None]]:
    """Return the dead letters of one job, the oldest first; they stay where they are.

    Args:
        connection: To the broker.
        topology: The namespace.
        lane: Whose dead letters.
        job_id: Its message id, or its correlation id; many jobs may share that, so the oldest `MAX_FOUND` count.
        has_body: Whether bodies are returned too.
        trusted_users: Broker users whose headers count, beside the connection's own.
        on_look: Gets letters looked at and letters in all.

    Raises:
        ConnectionLostError: The broker did not answer.
    """
    source = Source.of(connection, topology, lane=lane, trusted_users=trusted_users)
    found: Oldest[tuple[DeadLetterView, bytes | None]] = Oldest(MAX_FOUND)
    async with _looking(connection, source, on_look=on_look) as messages:
        async for message in messages:
            letter = source.view(message)
            if job_id in (letter.message_id, letter.correlation_id):
                found.add(rank_of(letter, mark_of(message)), (letter, message.body if has_body else None))
    return found.sorted()


async def _groups(connection: AbstractConnection, source: Source, *, on_look: OnProgress) -> list[Group]:
    groups: dict[tuple[str | None, str | None, str | None], Group] = {}
    async with _looking(connection, source, on_look=on_look) as messages:
        async for message in messages:
            letter = source.view(message)
            kind = letter.code, letter.program_id, letter.lm
            if kind not in groups and len(groups) >= MAX_GROUPS:
                kind = "…", None, None
            groups.setdefault(kind, Group(*kind)).add(letter)
    return sorted(groups.values(), key=lambda group: -group.messages)


@asynccontextmanager
async def _looking(
    connection: AbstractConnection, source: Source, *, on_look: OnProgress
) -> AsyncGenerator[AsyncGenerator[DeliveredMessage]]:
    """Yield every letter that is there now, and put all back afterwards, so that the next look sees them."""
    depth = await depth_of(connection, source)
    seen = 0

    async def counted() -> AsyncGenerator[DeliveredMessage]:
        nonlocal seen
        async with aclosing(look(channel, source.queue, depth)) as messages:
            async for message in messages:
                seen += 1
                on_look(seen, max(depth, seen))
                yield message

    async with scratch_channel(connection) as channel:
        async with aclosing(counted()) as messages:
            yield messages
        await put_back(channel)
        await until_back(channel, source.queue, count=seen)
