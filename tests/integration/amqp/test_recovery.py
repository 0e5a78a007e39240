"""What the broker takes away comes back, or shows."""

from __future__ import annotations

import asyncio

import pytest
from aio_pika.abc import AbstractConnection

from tests.integration.amqp.conftest import MakeHandler, StartConsumer, until, until_depth
from tests.support.caller import Caller
from worker import telemetry
from worker.amqp.channels import scratch_channel
from worker.amqp.consumer import Consumer
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology, count_consumers
from worker.message import Ack, AckIfReplied, DeadLetter, Delay, Letter, Reply, Trail
from worker.settings import Settings, load

LETTER = Letter("internal", "…")


async def test_a_deleted_work_queue_is_declared_and_consumed_again(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """The broker's cancel is noticed at once."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle) as consumer:
        async with scratch_channel(connection) as channel:
            await channel.queue_delete(f"{caller.namespace}.execute")
        await until(lambda: not consumer.is_consuming)
        await until(lambda: consumer.is_consuming)
        await caller.reply(await caller.publish("execute", {}))

    assert await count_consumers(connection, f"{caller.namespace}.execute") == 0


async def test_a_lost_connection_is_made_again_and_the_job_delivered_again(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """The job in hand goes on in its own task; its second delivery, in hand as well, is the one that answers."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        correlation_id = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        connection = consumer._intake._link._connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.connection._writer_task.cancel()  # type: ignore[attr-defined]
        await handler.seen(2)
        handler.gate.set()
        await caller.reply(correlation_id)
        await until(lambda: consumer.is_consuming)

    assert not handler.cancelled
    assert caller.waiting(correlation_id) == 0
    assert await caller.depth("execute") == 0


async def test_a_job_whose_connection_was_lost_is_answered_without_waiting_for_its_next_delivery(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Another worker that gets it may wait on the ladder for this one, so the reply goes out as soon as it is there."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        correlation_id = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        async with consumer.paused("test"):
            connection = consumer._intake._link._connection
            assert connection is not None
            await connection.close()
            handler.gate.set()
            first = await caller.reply(correlation_id)
        second = await caller.reply(correlation_id)

    assert len(handler.deliveries) == 2
    assert (first.message_id, first.body) == (second.message_id, second.body)


async def test_a_publish_goes_on_after_its_connection_was_lost(
    settings: Settings, topology: Topology, caller: Caller
) -> None:
    """The same message id, a retry counted, and True as if nothing had happened."""
    publisher = Publisher(settings, topology, worker_id="worker-1")
    await publisher.start()
    reply = Reply(b"{}", caller.reply_queue, "c1", "m1")
    try:
        assert await publisher.reply(reply)
        before = telemetry.PUBLISH_RETRIES._value.get()
        channel = publisher._replies._channel
        assert channel is not None
        channel.connection._writer_task.cancel()  # type: ignore[attr-defined]
        is_taken = await asyncio.wait_for(publisher.reply(reply), 10)
    finally:
        await publisher.close()

    assert is_taken
    assert telemetry.PUBLISH_RETRIES._value.get() > before
    assert (await caller.reply("c1")).message_id == "m1"


async def test_a_missing_ladder_step_is_declared_again(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """Neither a deleted exchange nor a deleted queue loses a copy."""
    handler = make_handler(Delay(200, Trail()), Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle):
        async with scratch_channel(connection) as channel:
            await channel.queue_delete(f"{caller.namespace}.delay.200")
        correlation_id = await caller.publish("execute", {})
        await handler.seen(2)
        async with scratch_channel(connection) as channel:
            await channel.exchange_delete(f"{caller.namespace}.delay.200")
        reply = await caller.reply(correlation_id)

    assert reply.correlation_id == correlation_id


async def test_a_full_dead_letter_queue_pauses_consuming_until_there_is_room(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is lost, nothing new is taken, and it goes on by itself."""
    monkeypatch.setattr("worker.amqp.settling.DEAD_LETTER_RETRY_SECONDS", 0.1)
    handler = make_handler(DeadLetter(LETTER))
    async with start_consumer(handler.handle, concurrency=1) as consumer:
        published = 0
        # A quorum queue notices its bound a little late.
        while consumer.is_consuming:
            await caller.publish("execute", b" " * 300_000, reply_to=None, message_id=f"m{published}")
            published += 1
            await until(lambda: consumer.in_flight("execute") == 0 or not consumer.is_consuming)
        held = await caller.depth("execute") + consumer.in_flight("execute")
        taken = [await caller.dead_letter("execute") for _ in range(published)]
        await until(lambda: consumer.is_consuming)

    assert held >= 1
    assert {letter.message_id for letter in taken} == {f"m{number}" for number in range(published)}


async def test_a_stop_does_not_wait_for_room_in_a_full_dead_letter_queue(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """The reply is out and the outcome kept, so the message may go back; that is a clean end."""
    handler = make_handler(DeadLetter(LETTER))
    before = telemetry.SETTLEMENTS.labels("give_back")._value.get()
    async with start_consumer(handler.handle, concurrency=1) as consumer:
        published = 0
        while consumer.is_consuming:
            await caller.publish("execute", b" " * 300_000, reply_to=None, message_id=f"m{published}")
            published += 1
            while await caller.depth("execute.dead") < published and consumer.is_consuming:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.01)
        is_drained = await asyncio.wait_for(consumer.drain(60), 10)
        # The broker takes a message back a little after the channel is closed.
        await until_depth(caller, "execute", 1)
        kept = await caller.depth("execute.dead")

    assert telemetry.SETTLEMENTS.labels("give_back")._value.get() == before + 1
    assert kept == published - 1

    assert is_drained


async def test_start_waits_for_a_broker_that_is_away(
    settings: Settings, make_handler: MakeHandler, topology: Topology
) -> None:
    """No crash, no loop without a pause; a cancel ends it."""
    away = load({"DSPEX_AMQP_URL": "amqp://127.0.0.1:9/", "DSPEX_NAMESPACE": settings.namespace})
    publisher = Publisher(away, topology, worker_id="w")
    consumer = Consumer(away, topology, handle=make_handler(Ack()).handle, publisher=publisher, worker_id="w")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(consumer.start(), 1)
    await consumer.close()

    assert not consumer.is_consuming


async def test_a_paused_consumer_takes_nothing_and_settles_what_it_has(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Later steps pause it when the store is down."""
    handler = make_handler(AckIfReplied(LETTER), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        first = await caller.publish("execute", {})
        await handler.seen(1)
        async with consumer.paused("test"):
            second = await caller.publish("execute", {})
            handler.gate.set()
            await caller.reply(first)
            is_consuming, depth = consumer.is_consuming, await caller.depth("execute")
        await caller.reply(second)

    assert (is_consuming, depth) == (False, 1)
