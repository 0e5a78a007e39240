"""What a broker of the test's own does to a worker: alarms, a black hole, a closed channel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from local_services import temporary_folder
from pydantic import SecretStr
from rabbit_node import RabbitNode

from tests.faults.proxy import Proxy
from tests.integration.amqp.conftest import MakeHandler, StartConsumer, until, until_depth
from tests.support.caller import Caller
from worker.message import Ack, Lane

pytestmark = pytest.mark.timeout(120)

CONTROL: tuple[Lane, ...] = ("control",)
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB")),
}


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitNode]:
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node:
        yield node


@pytest.fixture(scope="module")
def amqp_url(node: RabbitNode) -> str:
    """This module's own broker, with heartbeats that tell within seconds."""
    return f"{node.url}?heartbeat=1"


async def ctl(node: RabbitNode, *arguments: str) -> None:
    await asyncio.to_thread(node.ctl, *arguments)


@pytest.mark.parametrize("kind", ALARMS)
async def test_an_alarm_starts_no_job_and_loses_none(
    kind: str, node: RabbitNode, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """What ran is answered after it, what came meanwhile begins after it, and all by itself."""
    raised, ended = ALARMS[kind]
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        running = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        try:
            async with consumer.paused("test", lanes=CONTROL):
                waiting = await caller.publish("control", {}, message_id="m2")
                await until_depth(caller, "control", 1)
                await ctl(node, *raised)
                handler.gate.set()
                await until(lambda: consumer._publisher.is_blocked)
            await until(lambda: consumer.in_flight("control") == 1)
            is_ready, begun = consumer._publisher.is_ready, len(handler.deliveries)
        finally:
            await ctl(node, *ended)
        await caller.reply(running)
        await caller.reply(waiting)

    assert (is_ready, begun) == (False, 1)
    assert len(handler.deliveries) == 2


async def test_a_drain_during_an_alarm_gives_back_what_was_not_begun(
    node: RabbitNode, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Another worker may have it at once; what ran is answered when the alarm ends."""
    raised, ended = ALARMS["memory"]
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        running = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        try:
            async with consumer.paused("test", lanes=CONTROL):
                await caller.publish("control", {}, message_id="m2")
                await until_depth(caller, "control", 1)
                await ctl(node, *raised)
                handler.gate.set()
                await until(lambda: consumer._publisher.is_blocked)
            await until(lambda: consumer.in_flight("control") == 1)
            draining = asyncio.create_task(consumer.drain(20))
            await until(lambda: consumer.in_flight("control") == 0)
            in_hand = consumer.in_flight("execute")
            await until_depth(caller, "control", 1)
        finally:
            await ctl(node, *ended)
        is_drained = await draining
        await caller.reply(running)

    assert (in_hand, is_drained) == (1, True)
    assert len(handler.deliveries) == 1


async def test_connections_that_are_reset_are_made_again(
    node: RabbitNode, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Both at once, with RST: the job in hand runs on and is answered."""
    handler = make_handler(Ack(), is_open=False)
    async with (
        Proxy(node.port) as proxy,
        start_consumer(handler.handle, amqp_url=SecretStr(proxy.url(node.url))) as consumer,
    ):
        correlation_id = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        reset = proxy.reset()
        await handler.seen(2)
        handler.gate.set()
        await caller.reply(correlation_id)
        await until(lambda: consumer.is_consuming)
        await caller.reply(await caller.publish("execute", {}))

    assert reset == 2
    assert not handler.cancelled


async def test_a_black_hole_is_found_by_heartbeats(
    node: RabbitNode, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A broker that is silent and closes nothing: the job in hand runs on, is stored by its handler, and is answered."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        correlation_id = await caller.publish("execute", {}, message_id="m1")
        await handler.seen(1)
        node.pause()
        try:
            # Two heartbeats of a second each, and what the machine needs.
            async with asyncio.timeout(2 + 2):
                await until(lambda: not consumer.is_consuming)
            is_deaf = consumer.is_deaf
        finally:
            node.resume()
        await until(lambda: consumer.is_consuming)
        handler.gate.set()
        async with Caller(node.url, caller.namespace) as other:
            # The broker has ended the first caller's connection, and its reply queue with it.
            await other.reply(await other.publish("execute", {}, message_id="m2"))
        await until(lambda: consumer.in_flight("execute") == 0)

    assert not is_deaf
    assert not handler.cancelled
    assert "m1" in {delivery.message_id for delivery in handler.deliveries}
    assert correlation_id


async def test_a_channel_that_the_broker_closes_is_opened_again(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """An ack of an unknown delivery closes it: the job goes on, its neighbours on other lanes notice nothing."""
    handler = make_handler(Ack(), is_open=False)
    async with start_consumer(handler.handle) as consumer:
        execute = await caller.publish("execute", {}, message_id="m1")
        control = await caller.publish("control", {}, message_id="m2")
        await handler.seen(2)
        channel = consumer._intake.lanes["execute"]._channel
        assert channel is not None
        await channel.basic_ack(4711)
        await handler.seen(3)
        handler.gate.set()
        await caller.reply(execute)
        await caller.reply(control)
        await until(lambda: consumer.is_consuming)

    assert not handler.cancelled
    assert [delivery.message_id for delivery in handler.deliveries].count("m2") == 1
    assert await caller.depth("execute") == 0
