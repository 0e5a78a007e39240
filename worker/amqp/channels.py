"""Open channels, and leave their connection alone when the broker closes one.

Channels are aiormq's, the layer below aio-pika: its own would restore consumers behind our back, and its message
objects cost as much again as the rest of a delivery. The broker closes a channel as an answer: no such queue, another
argument, no right. Twice aiormq's own way would cost the whole connection then, and every channel on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast
from weakref import WeakKeyDictionary

import aiormq
from aio_pika.abc import AbstractConnection
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.exceptions import ChannelInvalidStateError

from worker.amqp.connection import RPC_SECONDS, losses
from worker.amqp.errors import ConnectionLostError

# Where the broker names no limit (0): the protocol's.
_MOST_CHANNELS = 65_535

_last_numbers: WeakKeyDictionary[aiormq.Connection, int] = WeakKeyDictionary()


class _Outbox:
    """What a channel writes, up to its acknowledgement that the broker has closed it, its last word.

    aiormq looks whether its channel is open before it waits for its turn to write, so a frame may follow that
    acknowledgement, and the broker ends the whole connection for it: "expected 'channel.open'". Here such a frame is
    dropped, as the broker would have done a moment earlier; who waits for its answer gets the reason of the closing.
    """

    def __init__(self, queue: asyncio.Queue[ChannelFrame]) -> None:
        self._queue = queue
        self._is_ended = False

    async def put(self, frame: ChannelFrame) -> None:
        if not self._is_ended:
            await self._queue.put(frame)

    def put_nowait(self, acknowledgement: ChannelFrame) -> None:
        """Write what aiormq writes in this way alone: its acknowledgement."""
        self._is_ended = True
        self._queue.put_nowait(acknowledgement)


async def open_channel(connection: AbstractConnection, *, has_confirms: bool = False) -> Channel:
    """Open a channel.

    Raises:
        ConnectionLostError: The connection is gone.
    """
    with losses():
        transport = connection.transport
        # Asked here, aiormq answers with a bare RuntimeError.
        if transport is None or transport.connection.is_closed:
            raise ChannelInvalidStateError("The connection is closed")
        number = _rested_number(cast("aiormq.Connection", transport.connection))
        opened = await transport.connection.channel(
            number, publisher_confirms=has_confirms, on_return_raises=False, timeout=RPC_SECONDS
        )
    channel = cast("Channel", opened)
    channel.write_queue = _Outbox(channel.write_queue)  # type: ignore[assignment]
    return channel


def _rested_number(connection: aiormq.Connection) -> int:
    """Return the channel number that has rested for longest.

    aiormq itself takes the one that the broker has just closed, perhaps before the close is acknowledged. The broker ends
    the whole connection then: "second 'channel.open' seen".

    Raises:
        ChannelInvalidStateError: All are in use.
    """
    most = connection.connection_tune.channel_max or _MOST_CHANNELS
    last = _last_numbers.get(connection, 0)
    turn = (1 + (last + step) % most for step in range(most))
    number = next((number for number in turn if number not in connection.channels), None)
    if number is None:
        raise ChannelInvalidStateError(f"All {most} channels of the connection are in use")
    _last_numbers[connection] = number
    return number


@asynccontextmanager
async def scratch_channel(connection: AbstractConnection, *, has_confirms: bool = False) -> AsyncIterator[Channel]:
    """Open a channel for a step that the broker may answer by closing it."""
    channel = await open_channel(connection, has_confirms=has_confirms)
    try:
        yield channel
    finally:
        await close_quietly(channel)


async def close_quietly(channel: Channel) -> None:
    """Close a channel; one that is already gone is closed enough."""
    with suppress(ConnectionLostError), losses():
        await channel.close()
