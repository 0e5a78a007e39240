"""What the broker refuses by closing the channel is refused alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from pamqp.commands import Basic

from tests.support.caller import Caller
from worker.amqp.errors import ReplyTooLargeError
from worker.amqp.publisher import Parcel, Publisher
from worker.amqp.topology import Topology
from worker.message import MAX_REPLY_BYTES, Reply
from worker.settings import Settings


@pytest.fixture
async def publisher(settings: Settings, topology: Topology) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, topology, worker_id="worker-1")
    await publisher.start()
    yield publisher
    await publisher.close()


def parcel(queue: str, message_id: str, *, expiration: str | None = None) -> Parcel:
    properties = Basic.Properties(message_id=message_id, correlation_id=message_id, expiration=expiration)
    return Parcel("", queue, b"{}", properties)


async def test_a_message_that_closes_its_channel_takes_none_of_its_neighbours_along(
    publisher: Publisher, caller: Caller
) -> None:
    """An impossible expiration stands for every 406, such as a message over the operator's own limit."""
    bad = parcel(caller.reply_queue, "bad", expiration="never")
    good = [parcel(caller.reply_queue, f"good{number}") for number in range(20)]
    results = await asyncio.wait_for(
        asyncio.gather(
            *(publisher._replies.send(one, refusals=3) for one in (*good[:10], bad, *good[10:])), return_exceptions=True
        ),
        20,
    )
    refusal = results.pop(10)
    for one in good:
        await caller.reply(one.properties.message_id)

    assert isinstance(refusal, ChannelPreconditionFailed)

    assert results == [True] * 20


async def test_a_reply_that_the_broker_will_never_take_is_not_repeated(
    publisher: Publisher, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large for the broker is told apart, for then something else is to be sent; without a right it counts as not taken."""
    refusal: Exception = ChannelPreconditionFailed("message size 9 is larger than configured max size 8")

    async def refuse(given: Parcel, channel: object) -> bool:
        raise refusal

    monkeypatch.setattr("worker.amqp.publisher._publish", refuse)
    reply = Reply(b"{}", caller.reply_queue, "c1", "m1")
    with pytest.raises(ReplyTooLargeError, match=r"of 2 bytes: .*configured max size 8"):
        await asyncio.wait_for(publisher.reply(reply), 10)
    refusal = ChannelAccessRefused("no right")

    assert not await asyncio.wait_for(publisher.reply(reply), 10)


async def test_a_reply_over_the_limit_of_all_replies_is_not_even_tried(publisher: Publisher, caller: Caller) -> None:
    """RabbitMQ 4 would close the channel."""
    with pytest.raises(ReplyTooLargeError, match="15,728,640 is the limit"):
        await publisher.reply(Reply(b"x" * (MAX_REPLY_BYTES + 1), caller.reply_queue, "c1", "m1"))
