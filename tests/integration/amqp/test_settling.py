"""What becomes of a message, for every settlement."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from tests.integration.amqp.conftest import MakeHandler, StartConsumer
from tests.integration.amqp.raw import publish
from tests.support.caller import Caller
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Delivery,
    Leave,
    Letter,
    Outcome,
    Reject,
    Settlement,
    Trail,
)

LETTER = Letter("output_invalid", "The answer is wrong", attempts=2, fingerprint="f00")


@pytest.mark.parametrize("settlement", [Ack(), AckIfReplied(LETTER)], ids=["ack", "ack if replied"])
async def test_a_job_whose_reply_was_taken_is_gone(
    settlement: Settlement, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """The reply arrives with its correlation id and properties, and no queue holds the message."""
    handler = make_handler(settlement)
    async with start_consumer(handler.handle):
        reply = await caller.reply(await caller.publish("execute", {}, message_id="m1"))

    assert (reply.type, reply.content_type, reply.content_encoding) == ("dspex.reply", "application/json", "utf-8")
    assert json.loads(reply.body) == {"done": True}
    assert [await caller.depth("execute"), await caller.depth("execute.dead")] == [0, 0]


@pytest.mark.parametrize("reply_to", ["nobody-listens-here", None], ids=["queue gone", "none asked for"])
async def test_a_refusal_that_nobody_heard_of_is_kept(
    reply_to: str | None, make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """AckIfReplied dead-letters where the reply was not taken or not asked for."""
    async with start_consumer(make_handler(AckIfReplied(LETTER)).handle):
        await caller.publish("execute", {}, reply_to=reply_to)
        letter = await caller.dead_letter("execute")

    assert letter.headers["x-dspex-code"] == "output_invalid"


async def test_a_success_whose_reply_nobody_took_is_acked(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """The result is kept in the store; the message is done."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, reply_to="nobody-listens-here")
        await handler.seen(1)

    assert [await caller.depth("execute"), await caller.depth("execute.dead")] == [0, 0]


async def test_a_dead_letter_says_why_and_keeps_what_the_publisher_sent(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Code, message, attempts, worker and time stand in headers; ids, body and public headers are as sent."""
    headers = {"tenant": "a", "x-dspex-code": "forged", "x-dspex-generation": 7, "ratio": 0.1}
    async with start_consumer(make_handler(DeadLetter(LETTER)).handle):
        sent = {"message_id": "m1", "expiration": 60, "headers": headers, "priority": 3, "app_id": "shop"}
        correlation_id = await caller.publish("execute", {"a": 1}, **sent)
        await caller.reply(correlation_id)
        letter = await caller.dead_letter("execute")

    first_failed_ms = letter.headers.pop("x-dspex-first-failed")
    assert isinstance(first_failed_ms, int)
    assert first_failed_ms > 1_700_000_000_000
    assert dict(letter.headers) == {
        "tenant": "a",
        "ratio": 0.1,
        "x-dspex-attempts": 2,
        "x-dspex-code": "output_invalid",
        "x-dspex-fingerprint": "f00",
        "x-dspex-generation": 0,
        "x-dspex-message": "The answer is wrong",
        "x-dspex-original-routing-key": f"{caller.namespace}.execute",
        "x-dspex-waits": 0,
        "x-dspex-worker": "worker-1",
    }
    assert (letter.message_id, letter.correlation_id, letter.reply_to) == ("m1", correlation_id, caller.reply_queue)
    assert (letter.expiration, letter.priority, letter.app_id) == (None, 3, "shop")
    assert letter.body == b'{"a": 1}'


async def test_a_long_error_message_is_cut_to_a_kibibyte(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A header may not blow the frame; a character is never cut in two."""
    async with start_consumer(make_handler(DeadLetter(Letter("internal", "ä" * 5_000))).handle):
        await caller.publish("execute", {})
        letter = await caller.dead_letter("execute")

    assert letter.headers["x-dspex-message"] == "ä" * 512


async def test_a_rejected_message_is_moved_by_the_broker(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Reject writes no copy: the message arrives as it was, with the broker's own record."""
    async with start_consumer(make_handler(Reject()).handle):
        await caller.publish("execute", {}, message_id="m1")
        letter = await caller.dead_letter("execute")

    assert letter.message_id == "m1"
    assert letter.headers["x-death"][0]["reason"] == "rejected"  # type: ignore[index,call-overload]


async def test_a_message_that_is_left_comes_again(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Leave settles nothing: after the connection closed, the next consumer gets it with its delivery count."""
    leaving, acking = make_handler(Leave(), is_replying=False), make_handler(Ack())
    async with start_consumer(leaving.handle):
        await caller.publish("execute", {}, message_id="m1")
        await leaving.seen(1)
    async with start_consumer(acking.handle):
        [delivery] = await acking.seen(1)

    assert (delivery.message_id, delivery.delivery_count) == ("m1", 1)


async def test_a_handler_that_raises_loses_no_job(start_consumer: StartConsumer, caller: Caller) -> None:
    """A bug in the handler dead-letters as internal, without its details."""

    async def handle(delivery: Delivery) -> Outcome:
        raise RuntimeError("secret detail")

    async with start_consumer(handle):
        await caller.publish("execute", {}, message_id="m1")
        letter = await caller.dead_letter("execute")

    assert (letter.message_id, letter.headers["x-dspex-code"]) == ("m1", "internal")
    assert "secret" not in str(letter.headers)


async def test_a_settlement_is_told_before_the_ack(start_consumer: StartConsumer, caller: Caller) -> None:
    """on_settled runs when the dead letter is safe and the original not yet gone."""
    depths: asyncio.Queue[int] = asyncio.Queue()

    async def look() -> None:
        await depths.put(await caller.depth("execute.dead"))

    async def handle(delivery: Delivery) -> Outcome:
        return Outcome(None, DeadLetter(LETTER), on_settled=look)

    async with start_consumer(handle):
        await caller.publish("execute", {})
        depth = await asyncio.wait_for(depths.get(), 10)

    assert depth == 1


async def test_a_delayed_job_comes_back_in_time_with_its_trail(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """The copy takes the ladder, comes to the same queue, not early, and carries what was noted."""
    trail = Trail(attempts=1, waits=2, first_delivered_ms=1_000, generation=0)
    handler = make_handler(Delay(500, trail), Ack())
    async with start_consumer(handler.handle):
        await caller.reply(await caller.publish("execute", {"a": 1}, message_id="m1", headers={"tenant": "a"}))

    first, second = handler.deliveries
    assert handler.times[1] - handler.times[0] >= 0.5
    assert (second.body, second.message_id, second.reply_to) == (first.body, "m1", first.reply_to)
    assert second.headers["tenant"] == "a"
    assert second.trail == dataclasses.replace(trail, original_routing_key=f"{caller.namespace}.execute")


async def test_a_delayed_job_without_message_id_has_none_when_it_comes_back(
    make_handler: MakeHandler, start_consumer: StartConsumer, connection: AbstractConnection, namespace: str
) -> None:
    """The client library's random ids never pass for idempotency keys."""
    handler = make_handler(Delay(200, Trail()), Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle):
        await publish(connection, f"{namespace}.execute", correlation_id="c1")
        deliveries = await handler.seen(3)

    assert [delivery.message_id for delivery in deliveries] == [None, None, None]


async def test_an_expiration_becomes_a_deadline_on_the_first_copy(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Left as it was, it would send the job back early and without its deadline."""
    handler = make_handler(Delay(200, Trail(first_delivered_ms=1_000)), Ack())
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, expiration=60)
        first, second = await handler.seen(2)

    assert (first.expires_in_ms, second.expires_in_ms) == (60_000, None)
    assert second.headers["x-dspex-deadline"] == 61_000


async def test_a_job_sent_through_the_exchange_finds_its_way_back(
    make_handler: MakeHandler, start_consumer: StartConsumer, connection: AbstractConnection, namespace: str
) -> None:
    """A copy's routing key is the work queue, whatever key the publisher used."""
    handler = make_handler(Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle):
        await publish(connection, "execute", exchange=namespace, message_id="m1")
        deliveries = await handler.seen(2)

    assert deliveries[1].trail.original_routing_key == "execute"


async def test_forged_internal_headers_count_for_nothing(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """A trail is read only from the worker's own user."""
    handler = make_handler(Ack())
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, headers={"x-dspex-attempts": 6, "x-dspex-generation": 2})
        [delivery] = await handler.seen(1)

    assert delivery.trail == Trail()


async def test_direct_reply_to_gets_its_reply(
    make_handler: MakeHandler, start_consumer: StartConsumer, connection: AbstractConnection, namespace: str
) -> None:
    """The broker returns a mandatory message to such an address although it delivers it."""
    replies: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: AbstractIncomingMessage) -> None:
        await replies.put(message.body)

    async with start_consumer(make_handler(AckIfReplied(LETTER)).handle):
        channel = await connection.channel()
        queue = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await queue.consume(take, no_ack=True)
        request = aio_pika.Message(b"{}", reply_to="amq.rabbitmq.reply-to", correlation_id="c1")
        await channel.default_exchange.publish(request, routing_key=f"{namespace}.control")
        body = await asyncio.wait_for(replies.get(), 10)

    assert body == b'{"done": true}'
