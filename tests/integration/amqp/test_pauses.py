"""Consuming is paused on purpose, lane by lane, and messages go back while it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq.channel import Channel

from tests.integration.amqp.conftest import MakeHandler, StartConsumer, until, until_depth
from tests.support.caller import Caller
from worker import telemetry
from worker.message import Ack, GiveBack, Lane

EXECUTE: tuple[Lane, ...] = ("execute",)


async def test_a_pause_of_one_lane_leaves_the_others(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """With every LM down, programs are still made and questions answered."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle) as consumer:
        async with consumer.paused("every LM is down", lanes=EXECUTE):
            waiting = await caller.publish("execute", {})
            await caller.reply(await caller.publish("control", {}))
            await caller.reply(await caller.publish("create", {}))
            depth, faults, is_deaf = await caller.depth("execute"), consumer.faults, consumer.is_deaf
            paused = [telemetry.CONSUMING_PAUSED.labels(lane)._value.get() for lane in ("execute", "control")]
        await caller.reply(waiting)
        await until(lambda: consumer.is_consuming)

    assert (depth, faults, is_deaf) == (1, ["paused: every LM is down"], False)
    assert paused == [1, 0]
    assert telemetry.CONSUMING_PAUSED.labels("execute")._value.get() == 0


async def test_a_lane_is_consumed_again_when_its_last_pause_is_over(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Pauses count, and each lane for itself."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle) as consumer:
        async with consumer.paused("the store is down"):
            async with consumer.paused("every LM is down", lanes=EXECUTE):
                faults = consumer.faults
            waiting = await caller.publish("execute", {})
            control = await caller.publish("control", {})
            depths = [await caller.depth("execute"), await caller.depth("control")]
        await caller.reply(waiting)
        await caller.reply(control)

    assert faults == ["paused: the store is down", "paused: every LM is down"]
    assert depths == [1, 1]


async def test_a_job_that_is_given_back_waits_for_the_pause(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Requeued while its lane is consumed, it would be back at once, and 100 times in a few seconds."""
    handler = make_handler(GiveBack(), GiveBack(), Ack(), is_replying=False)
    async with start_consumer(handler.handle) as consumer:
        for name in ("m1", "m2"):
            await caller.publish("execute", {}, message_id=name)
        await handler.seen(2)
        held = consumer.in_flight("execute")
        async with consumer.paused("the store is down"):
            await until(lambda: consumer.in_flight("execute") == 0)
            await until_depth(caller, "execute", 2)
        deliveries = await handler.seen(4)

    assert held == 2
    assert [delivery.delivery_count for delivery in deliveries] == [0, 0, 1, 1]


async def test_a_job_that_is_given_back_without_a_pause_makes_one(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After some seconds, for some seconds: slow, and no loop."""
    monkeypatch.setattr("worker.amqp.settling.GIVE_BACK_SECONDS", 0.2)
    handler = make_handler(GiveBack(), Ack())
    async with start_consumer(handler.handle) as consumer:
        await caller.publish("execute", {}, message_id="m1")
        await until(lambda: consumer.faults == ["paused: a job cannot be claimed"])
        is_control_live = consumer._intake.lanes["control"].is_live
        await handler.seen(2)

    assert handler.times[1] - handler.times[0] >= 0.4
    assert is_control_live


async def test_a_job_that_is_given_back_does_not_hold_up_a_drain(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A lane that is consumed no more is as good as a paused one."""
    handler = make_handler(GiveBack(), is_replying=False)
    async with start_consumer(handler.handle) as consumer:
        await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        is_drained = await consumer.drain(4)
        faults = consumer.faults

    assert is_drained
    assert faults == ["stopping"]
    await until_depth(caller, "execute", 1)


async def test_a_queue_that_does_not_answer_is_named_with_what_to_do(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue can come back dead after a crash of its node: the worker says so, and the other lanes work."""
    answer = Channel.basic_consume
    is_dead = True

    async def basic_consume(channel: Channel, queue: str, *arguments: Any, **options: Any) -> Any:
        if is_dead and queue.endswith(".create"):
            raise TimeoutError
        return await answer(channel, queue, *arguments, **options)

    handler = make_handler(Ack())
    async with start_consumer(handler.handle) as consumer:
        async with consumer.paused("test"):
            monkeypatch.setattr(Channel, "basic_consume", basic_consume)
        await caller.reply(await caller.publish("execute", {}))
        await until(lambda: "Delete it" in "".join(consumer.faults))
        [fault], is_deaf = consumer.faults, consumer.is_deaf
        is_dead = False
        await until(lambda: consumer.is_consuming)

    queue = f"{caller.namespace}.create"
    assert fault.startswith(f"not consuming {queue}: {queue} exists and does not answer")
    assert is_deaf
    assert consumer.faults == ["stopping"]


async def test_a_pause_survives_a_lost_connection(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """What is lost during a pause comes back after it, and not before."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle) as consumer:
        async with consumer.paused("test"):
            connection = consumer._intake._link._connection
            assert connection is not None
            await connection.close()
            correlation_id = await caller.publish("execute", {})
            await asyncio.wait_for(consumer._intake.quiet("execute"), 5)
            is_deaf = consumer.is_deaf
        await caller.reply(correlation_id)

    assert not is_deaf
