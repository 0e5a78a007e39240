"""Channels that the broker closes as an answer leave the rest of their connection alone."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Queue as Queues

from worker.amqp.channels import open_channel, scratch_channel
from worker.amqp.connection import connect, is_open, losses
from worker.amqp.errors import ConnectionLostError

_ASKING = 40
_QUESTIONS = 40
_DECLARING = 10
_REFUSED = 20


async def test_many_closed_channels_do_not_cost_the_connection(amqp_url: str, namespace: str) -> None:
    """A number that is opened again before its close was acknowledged would end the connection."""
    turns = random.Random(0)
    connection = await connect(amqp_url, name="test")

    async def ask(asking: int) -> int:
        refused = 0
        for question in range(_QUESTIONS):
            try:
                async with scratch_channel(connection) as channel:
                    with losses(ChannelNotFoundEntity):
                        await channel.queue_declare(f"{namespace}.{asking}.{question}", passive=True, timeout=10)
            except ChannelNotFoundEntity:
                refused += 1
            for _ in range(turns.randrange(4)):
                await asyncio.sleep(0)
        return refused

    async with connection:
        refused = await asyncio.gather(*(ask(asking) for asking in range(_ASKING)))
        is_alive = is_open(connection)

    assert is_alive
    assert refused == [_QUESTIONS] * _ASKING


async def test_refused_frames_sent_at_once_do_not_cost_the_connection(amqp_url: str, namespace: str) -> None:
    """One that followed the acknowledgement of its channel's closing would end the connection."""
    connection = await connect(amqp_url, name="test")

    async def declare(declaring: int) -> int:
        lost = 0
        for _ in range(_QUESTIONS):
            async with scratch_channel(connection) as channel:
                try:
                    with losses():
                        for number in range(_REFUSED):
                            name = f"{namespace}.{declaring}.{number}"
                            frame = Queues.Declare(queue=name, passive=True, nowait=number < _REFUSED - 1)
                            await channel.rpc(frame, timeout=10)
                except ConnectionLostError:
                    lost += 1
        return lost

    async with connection:
        lost = await asyncio.gather(*(declare(declaring) for declaring in range(_DECLARING)))
        is_alive = is_open(connection)

    assert is_alive
    assert lost == [_QUESTIONS] * _DECLARING


async def test_a_connection_that_has_just_closed_counts_as_lost(amqp_url: str) -> None:
    """Whoever publishes then opens another one; any other error would end the publish."""
    connection = await connect(amqp_url, name="test")
    async with connection:
        assert connection.transport is not None
        await connection.transport.connection.close()
        with pytest.raises(ConnectionLostError):
            await open_channel(connection)


async def test_a_channel_number_is_taken_again_only_after_all_others(amqp_url: str) -> None:
    """Numbers in use are passed over, and after the last one comes the first."""
    connection = await connect(amqp_url, name="test")
    async with connection:
        assert connection.transport is not None
        connection.transport.connection.connection_tune.channel_max = 3
        kept = await open_channel(connection)
        numbers = []
        for _ in range(4):
            async with scratch_channel(connection) as channel:
                numbers.append(channel.number)

    assert (kept.number, numbers) == (1, [2, 3, 2, 3])


async def test_a_connection_without_a_free_channel_counts_as_lost(amqp_url: str) -> None:
    """One number more than was agreed on would end it."""
    connection = await connect(amqp_url, name="test")
    async with connection:
        assert connection.transport is not None
        connection.transport.connection.connection_tune.channel_max = 2
        opened = [await open_channel(connection) for _ in range(2)]
        with pytest.raises(ConnectionLostError, match="All 2 channels"):
            await open_channel(connection)

    assert [channel.number for channel in opened] == [1, 2]
