"""The Python client against a real broker, with a small consumer in the worker's place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Self

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from child_processes import free_port
from local_services import temporary_folder
from rabbit_node import RabbitNode
from yarl import URL

from tests.support.stand import Stand, echo, keep_silent, success
from worker.client import Client, ClientError, NoWorkerError, ReplyError, ReplyTimeoutError
from worker.errors import Problem


class Proxy:
    """A TCP relay to the broker whose connections can be cut."""

    def __init__(self, url: str) -> None:
        self._target = URL(url)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = free_port()

    @property
    def url(self) -> str:
        return str(self._target.with_host("127.0.0.1").with_port(self._port))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._port)

    async def cut(self) -> None:
        """Stop listening and break every connection."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers += [writer, downstream]
        for source, sink in ((reader, downstream), (upstream, writer)):
            self._tasks.add(asyncio.create_task(_pump(source, sink)))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@pytest.fixture
async def client(amqp_url: str, namespace: str) -> AsyncIterator[Client]:
    async with Client(amqp_url, namespace=namespace, timeout=20) as opened:
        yield opened


async def test_execute_returns_typed_outputs_and_the_figures_of_the_run(client, amqp_url, namespace):
    """Outputs, usage, warnings, fallback and attempts come as attributes."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        more = {"usage": {"lm_calls": 1}, "warnings": ["w"], "fallback_used": True, "attempts": 2}
        await stand.reply(message, success(message, **more))

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        result = await client.execute("p", {"n": 1.0})

    assert isinstance(result["n"], float)
    assert (result.outputs, result.usage, result.warnings) == ({"n": 1.0}, {"lm_calls": 1}, ("w",))
    assert (result.fallback_used, result.attempts, result.raw["attempts"]) == (True, 2, 2)


async def test_a_job_carries_ids_a_deadline_and_its_media_type(client, amqp_url, namespace):
    """What the wire contract asks a publisher for."""
    before_ms = time.time() * 1_000
    async with Stand(amqp_url, f"{namespace}.execute", echo) as stand:
        await client.execute("p", {}, timeout=5, message_id="order-7", options={"cache": True})
    (message,) = stand.got
    deadline_ms = message.headers["x-dspex-deadline"]

    assert isinstance(deadline_ms, int)
    assert message.timestamp is not None
    assert message.headers["x-dspex-timeout"] == 5_000
    assert int(before_ms) // 1_000 <= message.timestamp.timestamp() <= time.time()
    assert before_ms + 4_999 <= deadline_ms <= time.time() * 1_000 + 5_000
    assert (message.message_id, message.content_type, message.content_encoding) == (
        "order-7",
        "application/json",
        "utf-8",
    )
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert json.loads(message.body) == {
        "command": "execute_program",
        "args": {"program_id": "p", "inputs": {}, "options": {"cache": True}},
    }


@pytest.mark.parametrize(("options", "expected"), [(None, "never"), ({"fallback": "create"}, "create")])
async def test_predict_never_falls_back_unless_told_to(client, amqp_url, namespace, options, expected):
    """The fallback policy of a one-message prediction is explicit."""
    async with Stand(amqp_url, f"{namespace}.execute", echo) as stand:
        await client.predict("text -> label", {"text": "x"}, options=options)
    args = json.loads(stand.got[0].body)["args"]

    assert (args["signature"], args["fallback"]) == ("text -> label", expected)


@pytest.mark.parametrize(("more", "expected"), [({}, "never"), ({"fallback": "execute"}, "execute")])
async def test_create_program_never_falls_back_unless_told_to(client, amqp_url, namespace, more, expected):
    """The fallback policy of a program is explicit, and other arguments go along."""
    async with Stand(amqp_url, f"{namespace}.create", echo) as stand:
        await client.create_program("text -> label", id="p", lm="fast", **more)

    assert json.loads(stand.got[0].body)["args"] == {
        "signature": "text -> label",
        "fallback": expected,
        "id": "p",
        "lm": "fast",
    }


async def test_an_error_reply_is_raised_with_all_its_details(client, amqp_url, namespace):
    """A caller can tell code, field, problems and whether to try again."""
    detail = {
        "code": "lm_rate_limited",
        "message": "slow",
        "field": "text",
        "recoverable": True,
        "retry_after": 1_500,
        "attempts": 3,
        "problems": [{"path": "/inputs/text", "problem": "missing"}],
    }
    document = {"id": None, "success": False, "timestamp": 1.0, "error": "slow", "error_detail": detail}

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, document)

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        with pytest.raises(ReplyError) as caught:
            await client.execute("p", {})
    error = caught.value

    assert (error.code, error.message, error.field) == ("lm_rate_limited", "slow", "text")
    assert (error.is_recoverable, error.retry_after_ms) == (True, 1_500)
    assert (error.problems, error.raw) == ((Problem("/inputs/text", "missing"),), document)


async def test_a_missing_queue_is_said_at_once(client, namespace):
    """No worker has ever run here."""
    with pytest.raises(NoWorkerError, match=rf"There is no queue {namespace}\.execute"):
        await client.execute("p", {})


async def test_a_queue_without_a_consumer_is_said_at_once_and_gets_no_job(client, amqp_url, namespace):
    """All workers are gone; the job must not run behind the caller's back later."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    with pytest.raises(NoWorkerError, match="No worker consumes"):
        await client.execute("p", {})
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue(f"{namespace}.execute", passive=True)

        assert queue.declaration_result.message_count == 0


async def test_a_job_waits_for_a_worker_to_come_where_none_is_required(amqp_url, namespace):
    """Queueing ahead of the workers is a choice."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client:
        waiting = asyncio.create_task(client.execute("p", {"a": 1}))
        async with Stand(amqp_url, f"{namespace}.execute", echo):
            result = await waiting

    assert result.outputs == {"a": 1}


async def test_an_unroutable_job_is_said_where_no_worker_is_required(amqp_url, namespace):
    """The mandatory publish comes back."""
    async with (
        Stand(amqp_url, f"{namespace}.control", echo),
        Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client,
    ):
        with pytest.raises(NoWorkerError, match="There is no queue"):
            await client.execute("p", {})


async def test_a_namespace_without_workers_is_said_and_spoils_no_later_call(amqp_url, namespace):
    """Without its exchange the broker closes the channel; the link opens another one."""
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client:
        with pytest.raises(NoWorkerError, match="has a worker run in this namespace"):
            await client.execute("p", {})
        async with Stand(amqp_url, f"{namespace}.execute", echo):
            result = await client.execute("p", {"a": 1})

    assert result.outputs == {"a": 1}


async def test_a_silent_worker_ends_in_a_time_out_that_names_the_job(client, amqp_url, namespace):
    """The message id lets the caller ask again without paying twice."""
    async with Stand(amqp_url, f"{namespace}.execute", keep_silent):
        with pytest.raises(ReplyTimeoutError, match=r"within 0\.2 s") as caught:
            await client.execute("p", {}, timeout=0.2, message_id="m-1")

    assert isinstance(caught.value, TimeoutError)
    assert caught.value.message_id == "m-1"


async def test_late_and_repeated_replies_are_dropped(client, amqp_url, namespace):
    """A reply to a call that is over disturbs no other call."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if message.message_id == "late":
            return
        for earlier in stand.got:
            await stand.reply(earlier, success(earlier))
            await stand.reply(earlier, success(earlier))

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        with pytest.raises(ReplyTimeoutError):
            await client.execute("p", {"n": 0}, timeout=0.1, message_id="late")
        results = [await client.execute("p", {"n": n}) for n in (1, 2, 3)]

    assert [result["n"] for result in results] == [1, 2, 3]


async def test_an_unreadable_reply_is_a_client_error(client, amqp_url, namespace):
    """Garbage never comes out as a result."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, b"\xffnot json")

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        with pytest.raises(ClientError, match="not JSON"):
            await client.execute("p", {})


async def test_a_request_that_cannot_be_encoded_fails_alone(client, amqp_url, namespace):
    """An id that AMQP cannot carry breaks no neighbour's call."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        with pytest.raises(ClientError, match="cannot be sent"):
            await client.execute("p", {}, message_id="x" * 300)
        result = await client.execute("p", {"a": 1})

    assert result.outputs == {"a": 1}


@pytest.mark.timeout(120)
async def test_a_request_larger_than_the_broker_takes_fails_alone():
    """The broker closes the channel, RabbitMQ 4 at 16 MiB unless told otherwise: it is not sent again and again."""
    first = asyncio.Event()

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if first.is_set():
            await stand.reply(message, success(message))
        first.set()

    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq", config="max_message_size = 100000\n") as node:
        async with Stand(node.url, "dspex.execute", answer) as stand, Client(node.url, timeout=30) as client:
            waiting = asyncio.create_task(client.execute("p", {"a": 1}))
            await first.wait()
            with pytest.raises(ClientError, match="larger than configured max size 100000"):
                await client.execute("p", {"a": "x" * 100_000})
            result = await waiting

    assert len(stand.got) == 2
    assert result.outputs == {"a": 1}


async def test_two_thousand_calls_in_flight_each_get_their_own_reply(client, amqp_url, namespace):
    """The consumer answers only when it holds all of them, last one first."""
    count = 2_000

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if len(stand.got) == count:
            await asyncio.gather(*(stand.reply(held, success(held)) for held in reversed(stand.got)))

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        results = await asyncio.gather(*(client.execute("p", {"n": n}) for n in range(count)))

    assert [result["n"] for result in results] == list(range(count))


async def test_pending_calls_are_published_again_after_a_lost_connection(amqp_url, namespace):
    """The copy has the same message id, and the call gets its reply through the new connection."""
    count = 50
    all_taken = asyncio.Event()

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if len(stand.got) > count:
            await stand.reply(message, success(message))
        elif len(stand.got) == count:
            all_taken.set()

    async with (
        Stand(amqp_url, f"{namespace}.execute", answer) as stand,
        Proxy(amqp_url) as proxy,
        Client(proxy.url, namespace=namespace, timeout=30) as client,
    ):
        calls = [asyncio.create_task(client.execute("p", {"n": n}, message_id=f"m-{n}")) for n in range(count)]
        await all_taken.wait()
        await proxy.cut()
        await proxy.listen()
        results = await asyncio.gather(*calls)
    ids = sorted(str(message.message_id) for message in stand.got)

    assert [result["n"] for result in results] == list(range(count))
    assert ids == sorted([f"m-{n}" for n in range(count)] * 2)


async def test_a_call_made_while_the_broker_is_away_is_sent_when_it_is_back(amqp_url, namespace):
    """With all of its time from then on; one that was given up before is not sent at all."""
    async with (
        Stand(amqp_url, f"{namespace}.execute", echo) as stand,
        Proxy(amqp_url) as proxy,
        Client(proxy.url, namespace=namespace, timeout=30, no_worker=("wait", 0)) as client,
    ):
        await client.execute("p", {})
        channel = client._link._channel
        assert channel is not None
        await proxy.cut()
        await channel.closed()
        with pytest.raises(ReplyTimeoutError, match=r"was not sent to .*: there was no connection .* for 0\.3 s"):
            await client.execute("p", {}, timeout=0.3)
        waiting = asyncio.create_task(client.execute("p", {"a": 1}))
        await proxy.listen()
        result = await waiting

    assert result.outputs == {"a": 1}
    assert [message.headers["x-dspex-timeout"] for message in stand.got] == [30_000, 30_000]


async def test_a_broker_that_cannot_be_reached_is_a_connection_error():
    """The first connection is the caller's to judge."""
    with pytest.raises(ConnectionError):
        async with Client(f"amqp://guest:guest@127.0.0.1:{free_port()}/"):
            pass


async def test_closing_the_client_ends_the_calls_that_wait(amqp_url, namespace):
    """Nobody is left waiting for ever, and a closed client says that it is closed."""
    is_taken = asyncio.Event()

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        is_taken.set()

    async with Stand(amqp_url, f"{namespace}.execute", answer):
        async with Client(amqp_url, namespace=namespace) as client:
            waiting = asyncio.create_task(client.execute("p", {}))
            await is_taken.wait()
        with pytest.raises(ClientError, match="was closed"):
            await waiting
        with pytest.raises(ClientError, match="not open"):
            await client.execute("p", {})
