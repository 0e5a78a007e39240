"""Look through a dead-letter queue, and know its letters again.

The broker promises no order: a message that was looked at goes back to the head of its queue on one version and to its
end on another. So nothing here counts on a place. A letter is known by its mark, and the oldest are chosen by what they
say themselves, out of the whole queue.

A look holds what it has seen unacked until it ends, for what went back would be sent again. The broker keeps a note
for each of them; this process keeps a letter's body only while it is looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity

from worker.amqp.connection import RPC_SECONDS, losses
from worker.amqp.copies import HEADER_CODE, HEADER_FIRST_FAILED, HEADER_REPLAY, HEADER_WORKER
from worker.amqp.dead_letters.letters import DeadLetterView
from worker.amqp.errors import ConnectionLostError
from worker.message import HEADER_GENERATION, HEADER_TENANT

WINDOW = 100
"""Messages that are sent ahead of the one looked at. 5,000 letters fetched one by one took 39 s on two busy cores."""

# Without a message for so long, the queue is asked whether it has one.
_QUIET_SECONDS = 0.5
# How long the broker may take to have back in the queue what was looked at.
_RETURN_SECONDS = 3.0
_LOOK_SECONDS = 0.02

_MARKED_HEADERS = (
    HEADER_CODE,
    HEADER_FIRST_FAILED,
    HEADER_GENERATION,
    HEADER_REPLAY,
    HEADER_TENANT,
    HEADER_WORKER,
)

Rank = tuple[bool, int, str, bytes]
T = TypeVar("T")


def mark_of(message: DeliveredMessage) -> bytes:
    """Return 16 bytes by which a letter is known again when the broker sends it another time.

    Two letters with the same mark are the same in all that a replay looks at.
    """
    properties = message.header.properties
    headers = properties.headers or {}
    ids = (properties.message_id, properties.correlation_id, properties.reply_to, properties.user_id)
    told = repr((ids, [headers.get(name) for name in _MARKED_HEADERS]))
    digest = hashlib.blake2b(told.encode("utf-8", "backslashreplace"), digest_size=16)
    digest.update(message.body)
    return digest.digest()


def rank_of(letter: DeadLetterView, mark: bytes) -> Rank:
    """Return what letters are sorted by: time of failure, then message id; those without a time come last."""
    failed_ms = letter.first_failed_ms
    return failed_ms is None, failed_ms or 0, letter.message_id or "", mark


class Oldest(Generic[T]):
    """Keeps the items of the lowest ranks.

    Args:
        limit: At most so many; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        # With a limit, a heap with the latest on top.
        self._held: list[_Held[T]] = []

    @property
    def last(self) -> Rank | None:
        """Rank of the latest item that is kept where there is room for no more; None where there is."""
        return self._held[0].rank if len(self._held) == self._limit else None

    def add(self, rank: Rank, item: T) -> None:
        """Keep an item, unless the limit is reached by older ones."""
        held = _Held(rank, item)
        if self._limit is None:
            self._held.append(held)
        elif len(self._held) < self._limit:
            heapq.heappush(self._held, held)
        else:
            heapq.heappushpop(self._held, held)

    def sorted(self) -> list[T]:
        """Return what is kept, the oldest first."""
        return [held.item for held in sorted(self._held, key=lambda held: held.rank)]


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    rank: Rank
    item: T

    def __lt__(self, other: _Held[T]) -> bool:
        return self.rank > other.rank


async def look(channel: Channel, queue: str, most: int, *, window: int = WINDOW) -> AsyncGenerator[DeliveredMessage]:
    """Yield messages until there are no more, or so many were seen; what is not acked goes back when the channel closes.

    None comes twice: all that was seen is held. Messages may be acked meanwhile; the broker sends others in their place.

    Args:
        channel: With no other consumer.
        queue: Its full name; one that is not there has no messages.
        most: Messages to look at; a few more come where some are acked.
        window: Messages that are sent ahead.
    """
    left = most
    while left > 0:
        arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        size, seen = min(window, left), 0
        consumer_tag = await _consume(channel, queue, arrived, size=size)
        try:
            while seen < size and (message := await _next(arrived)) is not None:
                seen += 1
                yield message
        finally:
            with suppress(ConnectionLostError), losses():
                await channel.basic_cancel(consumer_tag, timeout=RPC_SECONDS)
        is_quiet = seen < size
        while not arrived.empty():
            seen += 1
            yield arrived.get_nowait()
        if is_quiet:
            message = await fetch(channel, queue)
            if message is None:
                return
            seen += 1
            yield message
        left -= seen


async def fetch(channel: Channel, queue: str) -> DeliveredMessage | None:
    """Return the next message, or None where the queue has none, or is not there."""
    try:
        with losses(ChannelNotFoundEntity):
            message = await channel.basic_get(queue, timeout=RPC_SECONDS)
    except ChannelNotFoundEntity:
        return None
    return None if message.delivery_tag is None else message


async def put_back(channel: Channel) -> None:
    """Return all that was looked at; what the same channel asks for next comes after it."""
    with losses():
        await channel.basic_nack(0, multiple=True, requeue=True)


async def until_back(channel: Channel, queue: str, *, count: int) -> None:
    """Wait until the broker has in the queue again what was put back, so that the next look sees it.

    It does not wait for long: somebody else may have taken the messages by then.

    Args:
        channel: That held them.
        queue: Where they are from.
        count: How many they are.
    """
    if not count:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(_RETURN_SECONDS):
            while await _depth(channel, queue) < count:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(_LOOK_SECONDS)


async def _consume(channel: Channel, queue: str, arrived: asyncio.Queue[DeliveredMessage], *, size: int) -> str:
    with losses():
        await channel.basic_qos(prefetch_count=size, timeout=RPC_SECONDS)
        consumer = await channel.basic_consume(queue, arrived.put, timeout=RPC_SECONDS)
    return str(consumer.consumer_tag)


async def _next(arrived: asyncio.Queue[DeliveredMessage]) -> DeliveredMessage | None:
    """Return the next message; None where none comes for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_QUIET_SECONDS):
            return await arrived.get()
    return None


async def _depth(channel: Channel, queue: str) -> int:
    with losses():
        declared = await channel.queue_declare(queue, passive=True, timeout=RPC_SECONDS)
    return declared.message_count or 0
