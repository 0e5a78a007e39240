"""A job that may have killed its worker runs with nothing else in hand."""

from __future__ import annotations

import asyncio
import json

import pytest
from aio_pika.abc import AbstractConnection

from tests.integration.amqp.conftest import PATIENCE_SECONDS, MakeHandler, StartConsumer, until, until_depth
from tests.integration.amqp.raw import publish
from tests.support.caller import Caller
from worker import telemetry
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import user_of
from worker.amqp.suspects import RUNS_ALONE_WITHOUT_ID, SUSPECT_DELIVERIES, SUSPECT_DELIVERIES_WITHOUT_ID
from worker.message import LANES, Ack, Delay, Delivery, Isolate, Leave, Outcome, Trail

LATER = Delay(200, Trail(waits=1))
LAST_DELIVERY = SUSPECT_DELIVERIES_WITHOUT_ID + RUNS_ALONE_WITHOUT_ID - 1


class Suspicious:
    """Takes every job whose message id begins with ``bad`` for a suspect, and notes what begins and ends."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Condition()

    async def handle(self, delivery: Delivery) -> Outcome:
        name = delivery.message_id or "?"
        if name.startswith("bad") and not delivery.is_alone:
            await self._note(f"{name} is suspect")
            return Outcome(None, Isolate(LATER), code="isolated")
        await self._note(f"{name} begins{' alone' if delivery.is_alone else ''}")
        if name in self.gates:
            await self.gates[name].wait()
        await self._note(f"{name} ends")
        return Outcome(None, Ack())

    async def _note(self, line: str) -> None:
        async with self._changed:
            self.story.append(line)
            self._changed.notify_all()

    async def noted(self, line: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: line in self.story)


async def test_a_suspect_runs_with_nothing_else_in_hand(start_consumer: StartConsumer, caller: Caller) -> None:
    """It waits for what runs, nothing is taken meanwhile on any lane, and all goes on afterwards."""
    suspicious = Suspicious()
    suspicious.gates = {"slow": asyncio.Event(), "bad": asyncio.Event()}
    before = telemetry.ISOLATED._value.get()
    async with start_consumer(suspicious.handle) as consumer:
        await caller.publish("execute", {}, message_id="slow")
        await suspicious.noted("slow begins")
        await caller.publish("execute", {}, message_id="bad")
        await suspicious.noted("bad is suspect")
        for lane in LANES:
            await consumer._intake.quiet(lane)
        await caller.publish("execute", {}, message_id="next")
        await caller.publish("control", {}, message_id="question")
        suspicious.gates["slow"].set()
        await suspicious.noted("bad begins alone")
        in_hand = [consumer.in_flight(lane) for lane in ("create", "execute", "control")]
        faults = consumer.faults
        suspicious.gates["bad"].set()
        await suspicious.noted("next ends")
        await suspicious.noted("question ends")

    assert suspicious.story[:5] == ["slow begins", "bad is suspect", "slow ends", "bad begins alone", "bad ends"]
    assert faults == ["paused: a job that may have killed a worker runs alone"]
    assert telemetry.ISOLATED._value.get() == before + 1

    assert in_hand == [0, 1, 0]


async def test_two_suspects_at_once_run_one_after_the_other(start_consumer: StartConsumer, caller: Caller) -> None:
    """The second takes a hop on the ladder: waiting in hand, it would die with the first."""
    suspicious = Suspicious()
    suspicious.gates = {"slow": asyncio.Event(), "bad1": asyncio.Event()}
    async with start_consumer(suspicious.handle) as consumer:
        # Delivered together: the first suspect stops the consumer.
        async with consumer.paused("test"):
            for name in ("slow", "bad1", "bad2"):
                await caller.publish("execute", {}, message_id=name)
        for line in ("slow begins", "bad1 is suspect", "bad2 is suspect"):
            await suspicious.noted(line)
        await until(lambda: consumer.in_flight("execute") == 2)
        suspicious.gates["slow"].set()
        await suspicious.noted("bad1 begins alone")
        suspicious.gates["bad1"].set()
        await suspicious.noted("bad2 ends")

    assert suspicious.story.count("bad2 is suspect") == 2
    assert suspicious.story.index("bad1 ends") < suspicious.story.index("bad2 begins alone")
    assert await caller.depth("execute") == 0


async def test_a_message_delivered_often_before_is_not_handed_in_beside_others(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """What kills may be its body, before any row could tell."""
    leaving = make_handler(Leave(), is_replying=False)
    async with start_consumer(leaving.handle):
        await caller.publish("execute", {}, message_id="m1")
        await leaving.seen(1)
    for seen in range(2, SUSPECT_DELIVERIES + 1):
        async with start_consumer(leaving.handle):
            await leaving.seen(seen)
    acking = make_handler(Ack())
    async with start_consumer(acking.handle):
        [delivery] = await acking.seen(1)

    assert not any(one.is_alone for one in leaving.deliveries)
    assert (delivery.delivery_count, delivery.is_alone) == (SUSPECT_DELIVERIES, True)


async def test_a_message_without_an_id_that_kills_each_time_is_ended_unseen(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """It has no row that counts: the delivery limit of 100 would be 100 dead workers."""
    leaving = make_handler(Leave(), is_replying=False)
    async with start_consumer(leaving.handle):
        await publish(connection, f"{caller.namespace}.execute", reply_to=caller.reply_queue)
        await leaving.seen(1)
    for seen in range(2, LAST_DELIVERY + 2):
        async with start_consumer(leaving.handle):
            await leaving.seen(seen)
    unseen = make_handler(Ack())
    async with start_consumer(unseen.handle):
        letter = await caller.dead_letter("execute")
        reply = json.loads((await caller.reply(None)).body)

    assert [one.is_alone for one in leaving.deliveries] == [False] * 2 + [True] * RUNS_ALONE_WITHOUT_ID
    assert (letter.headers["x-dspex-code"], reply["error_detail"]["code"]) == ("worker_lost", "worker_lost")

    assert unseen.deliveries == []


async def test_a_suspect_that_makes_room_for_another_keeps_its_count(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """The broker counts the copy from 0; two killers would take turns for ever."""
    queue, own = f"{caller.namespace}.execute", user_of(caller._url)
    copy = {"x-dspex-generation": 0, "x-dspex-anonymous": True}
    leaving = make_handler(Leave(), is_open=False, is_replying=False)
    async with start_consumer(leaving.handle) as consumer:
        async with consumer.paused("test"):
            for body, deliveries in ((b"1", SUSPECT_DELIVERIES_WITHOUT_ID), (b"2", LAST_DELIVERY)):
                headers = copy | {"x-dspex-deliveries": deliveries}
                await publish(connection, queue, body, user_id=own, headers=headers)
        await leaving.seen(1)
        await until(lambda: consumer.in_flight("execute") == 1)
        leaving.gate.set()
        first, second = await leaving.seen(2)
    async with start_consumer(make_handler(Ack()).handle):
        letter = await caller.dead_letter("execute")

    assert [(one.body, one.is_alone, one.trail.waits) for one in (first, second)] == [(b"1", True, 0), (b"2", True, 1)]

    assert (letter.body, letter.headers["x-dspex-code"]) == (b"2", "worker_lost")


async def test_a_message_that_came_often_because_its_channels_were_lost_is_no_suspect(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Its first delivery is still in hand here: it has killed nobody, and must not stop the worker until it ends."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        await caller.publish("execute", {}, message_id="m1")
        for lost in range(SUSPECT_DELIVERIES + 1):
            await handler.seen(lost + 1)
            channel = consumer._intake.lanes["execute"]._channel
            assert channel is not None
            await channel.close()
        deliveries = await handler.seen(SUSPECT_DELIVERIES + 2)
        await until(lambda: consumer.is_consuming)
        faults = consumer.faults
        handler.gate.set()

    assert not any(delivery.is_alone for delivery in deliveries)
    assert deliveries[-1].delivery_count > SUSPECT_DELIVERIES

    assert faults == []


async def test_a_suspect_that_waits_goes_back_when_the_worker_stops(
    start_consumer: StartConsumer, caller: Caller
) -> None:
    """It is not begun any more, another worker has it at once, and the drain does not wait for it."""
    suspicious = Suspicious()
    suspicious.gates = {"slow": asyncio.Event()}
    async with start_consumer(suspicious.handle) as consumer:
        await caller.publish("execute", {}, message_id="slow")
        await suspicious.noted("slow begins")
        await caller.publish("execute", {}, message_id="bad")
        await suspicious.noted("bad is suspect")
        await until(lambda: not consumer.is_consuming)
        draining = asyncio.create_task(consumer.drain(PATIENCE_SECONDS))
        await until(lambda: consumer.in_flight("execute") == 1)
        await until_depth(caller, "execute", 1)
        suspicious.gates["slow"].set()
        is_drained = await draining

    assert "bad begins alone" not in suspicious.story
    assert is_drained


async def test_a_suspect_whose_channel_is_lost_while_it_waits_is_not_run(
    start_consumer: StartConsumer, caller: Caller
) -> None:
    """The broker has it back; its next delivery is the one that counts."""
    suspicious = Suspicious()
    suspicious.gates = {"slow": asyncio.Event(), "bad": asyncio.Event()}
    async with start_consumer(suspicious.handle) as consumer:
        await caller.publish("control", {}, message_id="slow")
        await suspicious.noted("slow begins")
        await caller.publish("execute", {}, message_id="bad")
        await suspicious.noted("bad is suspect")
        await until(lambda: not consumer.is_consuming)
        channel = consumer._intake.lanes["execute"]._channel
        assert channel is not None
        await channel.close()
        suspicious.gates["slow"].set()
        suspicious.gates["bad"].set()
        await suspicious.noted("bad ends")
        await until(lambda: consumer.in_flight("execute") == 0)

    assert suspicious.story.count("bad is suspect") == 2
    assert suspicious.story.count("bad begins alone") == 1


async def test_a_suspect_that_is_still_one_when_it_is_alone_is_delayed(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A handler that asks for isolation twice gets a hop, not a loop."""
    handler = make_handler(Isolate(LATER), Isolate(LATER), Ack(), is_replying=False)
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, message_id="m1")
        deliveries = await handler.seen(3)

    assert [(one.is_alone, one.trail.waits) for one in deliveries] == [(False, 0), (True, 0), (False, 1)]


@pytest.mark.parametrize("lane", ["create", "control"])
async def test_every_lane_isolates(
    lane: str, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller, connection: AbstractConnection
) -> None:
    """A create that kills is as bad as a run that does; the queue is empty afterwards."""
    handler = make_handler(Isolate(LATER), Ack(), is_replying=False)
    async with start_consumer(handler.handle) as consumer:
        await caller.publish(lane, {}, message_id="m1")
        deliveries = await handler.seen(2)
        await until(lambda: consumer.is_consuming)
        async with scratch_channel(connection) as channel:
            left = await channel.basic_get(f"{caller.namespace}.{lane}")

    assert left.delivery_tag is None
    assert [one.is_alone for one in deliveries] == [False, True]
