"""Shutdown: consumers first, then the jobs in hand."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr
from yarl import URL

from tests.faults.proxy import Proxy
from tests.integration.amqp.conftest import MakeHandler, StartConsumer, until, until_depth
from tests.support.caller import Caller
from worker.message import Ack


async def test_drain_lets_running_jobs_end_and_takes_no_new_ones(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """What waits in the queue stays there."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle, concurrency=1) as consumer:
        first = await caller.publish("execute", {})
        await caller.publish("execute", {})
        await handler.seen(1)
        draining = asyncio.create_task(consumer.drain(10))
        await until(lambda: not consumer.is_consuming)
        handler.gate.set()
        await caller.reply(first)
        is_drained = await draining

    assert is_drained
    assert (len(handler.deliveries), await caller.depth("execute")) == (1, 1)


async def test_drain_cancels_what_does_not_end_and_the_broker_takes_it_back(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """The handler sees the cancellation; the message is ready again."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        await caller.publish("execute", {})
        await handler.seen(1)
        is_drained = await consumer.drain(0.05)

    assert not is_drained
    assert len(handler.cancelled) == 1
    await until_depth(caller, "execute", 1)


async def test_in_flight_counts_each_lane_and_is_bounded_by_its_setting(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A full execute lane leaves control free."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle, concurrency=2) as consumer:
        ids = [await caller.publish("execute", {}) for _ in range(5)]
        ids.append(await caller.publish("control", {}))
        await handler.seen(3)
        counts = {lane: consumer.in_flight(lane) for lane in ("create", "execute", "control")}
        handler.gate.set()
        for correlation_id in ids:
            await caller.reply(correlation_id)

    assert counts == {"create": 0, "execute": 2, "control": 1}


async def test_a_broker_that_hangs_at_the_stop_keeps_what_is_in_hand_there(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, amqp_url: str
) -> None:
    """Giving up its answer must not close the channel: the job would run again elsewhere, and its ack fail."""
    handler = make_handler(Ack(), is_open=False)
    async with (
        Proxy(URL(amqp_url).port or 0) as proxy,
        start_consumer(handler.handle, amqp_url=SecretStr(proxy.url(amqp_url))) as consumer,
    ):
        job = await caller.publish("execute", {})
        await handler.seen(1)
        proxy.swallow()
        await consumer._intake.stop()
        proxy.flow()
        handler.gate.set()
        await caller.reply(job)
    again = make_handler(Ack())
    async with start_consumer(again.handle):
        await until_depth(caller, "execute", 0)

    assert (len(handler.deliveries), again.deliveries) == (1, [])
