"""Properties that RabbitMQ accepts and that break clients: refused, and no neighbour suffers."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from pamqp import commands, decode, frame, header

from tests.integration.amqp.conftest import MakeHandler, StartConsumer
from tests.integration.amqp.raw import publish
from tests.support.caller import Caller
from worker.amqp import shortstr
from worker.amqp.shortstr import UndecodableTable, Unreadable
from worker.message import Ack, AckIfReplied, DeadLetter, Delay, Letter, Reject, Trail

LETTER = Letter("invalid_request", "Properties that are not UTF-8")
LATIN_1 = "grün".encode("latin-1")


@pytest.fixture(autouse=True)
def decoders() -> None:
    shortstr.install()


def content_header(*, flags: int, properties: bytes) -> bytes:
    """A content header frame made by hand."""
    payload = struct.pack(">HHQH", 60, 0, 2, flags) + properties
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"


def test_a_correlation_id_that_is_not_utf_8_is_escaped_and_written_back_as_it_came() -> None:
    """A hand-made frame decodes, and encodes to the same bytes."""
    data = content_header(flags=1024, properties=bytes([len(LATIN_1)]) + LATIN_1)
    _, _, read = frame.unmarshal(data)

    assert isinstance(read, header.ContentHeader)
    assert isinstance(read.properties.correlation_id, Unreadable)
    assert read.properties.correlation_id == "gr\\xfcn"
    assert frame.marshal(read, 1) == data


def test_header_keys_and_values_that_are_not_utf_8_are_escaped() -> None:
    """At every depth of the table."""
    inner = b"\x01\xffS" + struct.pack(">I", 2) + b"\xfe\xfd"
    table = b"\x01kF" + struct.pack(">I", len(inner)) + inner
    _, headers = decode.by_type(struct.pack(">I", len(table)) + table, "table")

    assert headers == {"k": {"\\xff": "\\xfe\\xfd"}}


def test_a_table_nested_beyond_the_stack_is_undecodable_and_not_an_error() -> None:
    """Broker and neighbours never notice; the message cannot be copied."""
    value = b"V"
    for _ in range(5_000):
        value = b"A" + struct.pack(">I", len(value)) + value
    table = b"\x01k" + value
    consumed, headers = decode.by_type(struct.pack(">I", len(table)) + table, "table")

    assert isinstance(headers, dict)
    assert consumed == len(table) + 4
    assert isinstance(headers["headers"], UndecodableTable)
    with pytest.raises(TypeError):
        commands.Basic.Properties(headers=headers).marshal()


def test_a_time_beyond_the_calendar_is_none() -> None:
    """The decoder of pamqp would raise in the connection's reader."""
    assert decode.by_type(struct.pack(">Q", 2**63), "timestamp") == (8, None)


async def test_an_unreadable_job_is_answered_and_its_neighbours_are_delivered_once(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
) -> None:
    """The reply carries the very bytes of the correlation id; no channel closed on the way."""
    handler = make_handler(AckIfReplied(LETTER), is_open=False)
    async with start_consumer(handler.handle):
        for number in range(5):
            await caller.publish("execute", {"n": number})
        await publish(
            connection,
            f"{caller.namespace}.execute",
            correlation_id=Unreadable(LATIN_1),
            reply_to=caller.reply_queue,
            headers={Unreadable(b"\xff"): "x", "note": Unreadable(b"\xfe")},
        )
        deliveries = await handler.seen(6)
        handler.gate.set()
        reply = await caller.reply(Unreadable(LATIN_1))

    assert isinstance(reply.correlation_id, Unreadable)
    assert [delivery.delivery_count for delivery in deliveries] == [0] * 6
    # RabbitMQ 4 sorts the headers by name.
    assert set(deliveries[5].unreadable) == {"correlation_id", "header \\xff", "header note"}


async def test_an_unreadable_job_dead_letters_byte_for_byte(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
) -> None:
    """An operator gets what was sent."""
    async with start_consumer(make_handler(DeadLetter(LETTER)).handle):
        await publish(connection, f"{caller.namespace}.execute", message_id=Unreadable(LATIN_1))
        letter = await caller.dead_letter("execute")

    assert isinstance(letter.message_id, Unreadable)
    assert letter.message_id.raw == LATIN_1


@pytest.mark.parametrize("settlement", [Reject(), DeadLetter(LETTER), Delay(200, Trail())])
async def test_headers_near_the_frame_limit_are_rejected_without_a_copy(
    settlement: Reject | DeadLetter | Delay,
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
) -> None:
    """A copy with ours added would close the whole publish connection."""
    handler = make_handler(settlement)
    async with start_consumer(handler.handle):
        await caller.publish("execute", {}, headers={f"h{n}": "x" * 1_000 for n in range(100)})
        letter = await caller.dead_letter("execute")

    assert handler.deliveries[0].is_oversized
    assert letter.headers["x-death"][0]["reason"] == "rejected"  # type: ignore[index,call-overload]


async def test_a_reply_leaves_a_huge_traceparent_out(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """What a request brings may not break the connection that all replies use."""
    async with start_consumer(make_handler(Ack()).handle):
        correlation_id = await caller.publish("execute", {}, headers={"traceparent": "x" * 120_000})
        reply = await caller.reply(correlation_id)

    assert "traceparent" not in reply.headers


@pytest.mark.parametrize(
    "properties",
    [
        {"headers": {"n": 2**62, "f": 1e300, "d": {"l": [True, None, -1.5]}, "b": bytearray(b"\x00\xff")}},
        {"headers": {f"h{n}": n for n in range(5_000)}},
        {"content_type": "x" * 255, "priority": 255, "app_id": "a" * 255},
    ],
    ids=["odd types", "5,000 headers", "long strings"],
)
async def test_odd_properties_are_delivered_and_survive_a_copy(
    properties: dict[str, Any],
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    connection: AbstractConnection,
    namespace: str,
) -> None:
    """The job comes back from the ladder with the same headers."""
    handler = make_handler(Delay(200, Trail()), Ack())
    async with start_consumer(handler.handle):
        await publish(connection, f"{namespace}.execute", message_id="m1", **properties)
        first, second = await handler.seen(2)

    assert {name: second.headers.get(name) for name in first.headers} == dict(first.headers)


async def test_a_body_of_17_mib_is_delivered_and_dead_lettered(
    make_handler: MakeHandler, start_consumer: StartConsumer, caller: Caller
) -> None:
    """Size is the handler's business; no channel closes over it."""
    body = b" " * 17 * 1024 * 1024
    handler = make_handler(DeadLetter(LETTER), Ack())
    async with start_consumer(handler.handle):
        await caller.reply(await caller.publish("execute", body))
        await handler.seen(1)

    assert len(handler.deliveries[0].body) == len(body)
