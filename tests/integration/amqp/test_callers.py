"""Whether a caller is still there, as the broker tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from worker.amqp.callers import Callers
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import Link


@pytest.fixture
async def link(amqp_url: str) -> AsyncIterator[Link]:
    link = Link(amqp_url, name="test")
    await link.connection()
    yield link
    await link.close()


async def ignore(_: AbstractIncomingMessage) -> None:
    """Take a reply that no test looks at."""


async def direct_address(connection: AbstractConnection, amqp_url: str) -> tuple[str, aio_pika.abc.AbstractChannel]:
    """Return a direct reply-to address as a worker sees it, and the channel that it lives with."""
    channel = await connection.channel()
    replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await replies.consume(ignore, no_ack=True)
    other = await connection.channel()
    jobs = await other.declare_queue(exclusive=True)
    seen: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await jobs.consume(seen.put, no_ack=True)
    request = aio_pika.Message(b"{}", reply_to="amq.rabbitmq.reply-to")
    await channel.default_exchange.publish(request, routing_key=jobs.name)
    message = await asyncio.wait_for(seen.get(), 10)
    await other.close()
    assert message.reply_to is not None
    return message.reply_to, channel


async def test_an_exclusive_queue_is_there_as_long_as_its_connection(amqp_url: str, link: Link) -> None:
    """405 while it lives, 404 after; each closes the scratch channel, and the next question is answered all the same."""
    callers = Callers(link)
    connection = await aio_pika.connect(amqp_url)
    queue = await (await connection.channel()).declare_queue(exclusive=True)
    before = [await callers.is_gone(queue.name), await callers.is_gone(queue.name)]
    await connection.close()
    after = [await callers.is_gone(queue.name), await callers.is_gone(queue.name)]

    assert (before, after) == ([False, False], [True, True])


async def test_a_direct_reply_to_address_is_there_as_long_as_its_channel(
    connection: AbstractConnection, amqp_url: str, link: Link
) -> None:
    """One channel is kept while the answers are good; an address that is gone is not asked after again."""
    callers = Callers(link)
    address, channel = await direct_address(connection, amqp_url)
    before = [await callers.is_gone(address), await callers.is_gone(address)]
    kept = callers._channel
    assert kept is not None
    assert not kept.is_closed
    await channel.close()
    after = await callers.is_gone(address)
    await link.close()

    assert before == [False, False]
    assert after
    assert await callers.is_gone(address)


@pytest.mark.parametrize("name", ["spaces and ümlauts = äöü", "a/b+c==", "x" * 255])
async def test_any_name_can_be_asked_after(name: str, link: Link) -> None:
    """The client library refuses some that RabbitMQ makes itself."""
    assert await Callers(link).is_gone(name)


async def test_a_durable_queue_without_consumers_is_there(
    connection: AbstractConnection, namespace: str, link: Link
) -> None:
    """A caller may fetch its replies later; the queue is neither made nor changed."""
    name = f"{namespace}.reply.test"
    callers = Callers(link)
    was_gone = await callers.is_gone(name)
    async with scratch_channel(connection) as channel:
        await channel.queue_declare(name, durable=True)
        is_gone = await callers.is_gone(name)
        await channel.queue_delete(name)

    assert (was_gone, is_gone) == (True, False)


async def test_without_a_connection_nobody_is_gone(amqp_url: str) -> None:
    """Unknown is not gone: a call that is paid for in vain is better than a lost one."""
    link = Link(amqp_url, name="test")

    assert not await Callers(link).is_gone("nobody")


async def test_a_connection_that_is_lost_while_asking_means_not_gone(link: Link) -> None:
    """And the next question finds another connection, once somebody has opened it."""
    callers = Callers(link)
    await callers.is_gone("nobody")
    connection = await link.connection()
    asking = asyncio.gather(*(callers.is_gone("nobody") for _ in range(20)))
    await connection.close()
    answers = await asking
    await link.connection()

    assert len(answers) == 20
    assert await callers.is_gone("nobody")


async def test_many_questions_at_once_are_all_answered(
    amqp_url: str, connection: AbstractConnection, link: Link
) -> None:
    """An answer that closes the channel disturbs no other question."""
    callers = Callers(link)
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    names = [queue.name, "nobody"] * 20
    answers = await asyncio.gather(*(callers.is_gone(name) for name in names))

    assert answers == [False, True] * 20


async def test_jobs_of_one_caller_that_begin_together_share_a_question(
    connection: AbstractConnection, amqp_url: str, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes while a question is on its way waits for the next one: an older answer would tell of the past."""
    callers = Callers(link)
    address, _ = await direct_address(connection, amqp_url)
    assert not await callers.is_gone(address)
    assert callers._channel is not None
    asked, ask = [], callers._channel.rpc
    is_asked = asyncio.Event()

    async def rpc(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        is_asked.set()
        return await ask(*args, **kwargs)

    monkeypatch.setattr(callers._channel, "rpc", rpc)
    first = [asyncio.create_task(callers.is_gone(address)) for _ in range(20)]
    await is_asked.wait()
    second = [asyncio.create_task(callers.is_gone(address)) for _ in range(20)]
    answers = await asyncio.gather(*first, *second)

    assert answers == [False] * 40
    assert len(asked) == 2
