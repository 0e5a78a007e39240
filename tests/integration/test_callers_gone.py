"""Callers that have gone before their job starts, on the real broker."""

from __future__ import annotations

import json

import aio_pika
from aiormq.abc import DeliveredMessage

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub

ONE_OFF = {"args": {"signature": "text -> label", "inputs": {"text": "x"}}}
DIRECT = "amq.rabbitmq.reply-to"


async def publish_and_leave(url: str, namespace: str, *, message_id: str) -> None:
    """Publish a job as a client does that uses direct reply-to and dies before its job is begun."""

    async def ignore(_: DeliveredMessage) -> None: ...

    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    underlay = await channel.get_underlay_channel()
    await underlay.basic_consume(DIRECT, ignore, no_ack=True)
    message = aio_pika.Message(json.dumps(ONE_OFF).encode(), reply_to=DIRECT, message_id=message_id)
    await channel.default_exchange.publish(message, routing_key=f"{namespace}.execute")
    await connection.close()


async def state_of(caller: Caller, message_id: str) -> str:
    reply = await caller.call("control", {"command": "get_result", "args": {"message_id": message_id}})
    return str(reply["result"]["status"])


async def test_a_caller_that_died_is_not_paid_for(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, amqp_url: str
) -> None:
    """No LM call, no row, no dead letter; who still waits is answered."""
    lm_stub.outputs = {"label": "good"}
    async with start_worker():
        pass
    await publish_and_leave(amqp_url, caller.namespace, message_id="m")
    async with start_worker():
        reply = await caller.call("execute", ONE_OFF)
        state = await state_of(caller, "m")

    assert (reply["success"], lm_stub.calls, state) == (True, 1, "unknown")
    assert [await caller.depth(queue) for queue in ("execute", "execute.dead")] == [0, 0]


async def test_the_operator_may_have_such_jobs_run(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, amqp_url: str
) -> None:
    """The result is kept for whoever asks."""
    lm_stub.outputs = {"label": "good"}
    async with start_worker():
        pass
    await publish_and_leave(amqp_url, caller.namespace, message_id="m")
    async with start_worker(when_caller_gone="run"):
        await lm_stub.reach(1)
        # On the same lane behind it.
        await caller.call("execute", ONE_OFF)
        state = await state_of(caller, "m")

    assert (lm_stub.calls, state) == (2, "done")
