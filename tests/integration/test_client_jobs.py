"""Jobs that are sent now and fetched later, run again, or sent where no worker is yet."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.integration.conftest import StartWorker
from tests.integration.test_client import Proxy
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from tests.support.stand import Stand, echo, success
from worker.client import Client, NoWorkerError, ReplyError, ReplyTimeoutError

FAILED = {
    "id": None,
    "success": False,
    "timestamp": 1.0,
    "error": "down",
    "error_detail": {"code": "lm_unavailable", "message": "down", "recoverable": True, "problems": []},
}


def kept(status: str, reply: Any = None, **more: Any) -> dict[str, Any]:
    """Return an answer of ``get_result``."""
    return {"id": None, "success": True, "result": {"message_id": "m", "status": status, "reply": reply, **more}}


async def message_of(amqp_url: str, queue: str) -> AbstractIncomingMessage:
    """Take one message from a queue."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        message = await (await channel.get_queue(queue, ensure=False)).get(no_ack=True)
        assert message is not None
        return message


def timeout_ms(message: AbstractIncomingMessage) -> int:
    value = message.headers["x-dspex-timeout"]
    assert isinstance(value, int)
    return value


# Sending now.


async def test_an_enqueued_job_is_durable_bears_no_deadline_and_asks_for_no_reply(amqp_url, namespace):
    """It is safe with the broker when the call returns, and may run at any time."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client:
        message_id = await client.enqueue("p", {"n": 1}, options={"lm": "fast"})
    message = await message_of(amqp_url, f"{namespace}.execute")

    assert (message.message_id, message.reply_to, message.headers) == (message_id, None, {})
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert json.loads(message.body) == {
        "command": "execute_program",
        "args": {"program_id": "p", "inputs": {"n": 1}, "options": {"lm": "fast"}},
    }


async def test_an_enqueued_job_says_where_its_reply_goes_and_until_when_it_may_start(amqp_url, namespace):
    """For callers that restart: the reply carries the message id as its correlation id."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client:
        queue = f"{namespace}.reply.orders"
        await client.enqueue("text -> label", {}, message_id="order-7", reply_to=queue, start_within=90)
    message = await message_of(amqp_url, f"{namespace}.execute")

    assert (message.message_id, message.correlation_id, message.reply_to) == ("order-7", "order-7", queue)
    assert message.headers["x-dspex-timeout"] == 90_000
    assert json.loads(message.body)["args"]["signature"] == "text -> label"


async def test_a_job_that_no_queue_takes_is_not_said_to_be_sent(amqp_url, namespace):
    """The mandatory publish comes back."""
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 0)) as client:
        with pytest.raises(NoWorkerError, match="There is no exchange"):
            await client.enqueue("p", {})


async def test_a_job_that_is_enqueued_while_the_broker_is_away_is_sent_when_it_is_back(amqp_url, namespace):
    """And confirmed, before the call returns."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    async with (
        Proxy(amqp_url) as proxy,
        Client(proxy.url, namespace=namespace, timeout=30, no_worker=("wait", 0)) as client,
    ):
        await proxy.cut()
        sending = asyncio.create_task(client.enqueue("p", {}, message_id="m"))
        await asyncio.sleep(0)
        await proxy.listen()
        message_id = await sending

    assert message_id == "m" == (await message_of(amqp_url, f"{namespace}.execute")).message_id


# Fetching later.


async def test_a_result_is_asked_for_until_it_is_there(amqp_url, namespace):
    """Through every status that a job may have before."""
    answers = [kept(status) for status in ("unknown", "running", "waiting")]
    done = {"success": True, "result": {"outputs": {"n": 1}, "attempts": 2}}

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, answers.pop(0) if answers else kept("done", done, generation=1))

    async with Stand(amqp_url, f"{namespace}.control", answer), Client(amqp_url, namespace=namespace) as client:
        result = await client.await_result("m", timeout=30)

    assert (result.outputs, result.attempts, result.message_id, result.generation) == ({"n": 1}, 2, "m", 1)


async def test_the_end_of_a_cancelled_job_is_awaited_no_longer(amqp_url, namespace):
    """It is an error with a code, and the status alone can be asked for."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, kept("cancelled"))

    async with Stand(amqp_url, f"{namespace}.control", answer), Client(amqp_url, namespace=namespace) as client:
        status = await client.get_status("m")
        codes = []
        for call in (client.await_result("m"), client.get_result("m")):
            with pytest.raises(ReplyError) as caught:
                await call
            codes.append((caught.value.code, caught.value.message_id))

    assert (status, codes) == ("cancelled", [("cancelled", "m")] * 2)


@pytest.mark.parametrize(("status", "told"), [("waiting", "its status is waiting"), (None, "There is no queue")])
async def test_a_result_that_does_not_come_in_time_is_said_with_what_was_seen(amqp_url, namespace, status, told):
    """The last status, or that no worker is there."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, kept(str(status)))

    lane = "control" if status else "create"
    async with Stand(amqp_url, f"{namespace}.{lane}", answer), Client(amqp_url, namespace=namespace) as client:
        with pytest.raises(ReplyTimeoutError, match=told) as caught:
            await client.await_result("m", timeout=0.3)

    assert caught.value.message_id == "m"


async def test_a_result_is_awaited_no_longer_than_asked_where_calls_wait_for_workers(amqp_url, namespace):
    """The time for workers to come is not added to it."""
    async with Stand(amqp_url, f"{namespace}.control", echo):
        pass
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 600_000)) as client:
        with pytest.raises(ReplyTimeoutError, match=r"has not ended within 0\.3 s: no worker has answered"):
            await client.await_result("m", timeout=0.3)


async def test_an_enqueued_job_is_run_by_a_worker_and_its_result_is_fetched(
    start_worker: StartWorker, caller: Caller, amqp_url: str
) -> None:
    """With the real worker, from a text signature."""
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        message_id = await client.enqueue("question -> answer", {"question": "?"})
        result = await client.await_result(message_id)
        status = await client.get_status(message_id)

    assert (result["answer"], result.generation, status) == ("42", 0, "done")


async def test_the_error_of_an_enqueued_job_has_its_generation(
    start_worker: StartWorker, caller: Caller, amqp_url: str, lm_stub: LMStub
) -> None:
    """So another run can be asked for."""
    lm_stub.behaviour = failing(400)
    async with start_worker(), Client(amqp_url, namespace=caller.namespace) as client:
        message_id = await client.enqueue("question -> answer", {"question": "?"})
        with pytest.raises(ReplyError) as caught:
            await client.await_result(message_id)

    assert (caught.value.code, caught.value.message_id, caught.value.generation) == (
        "lm_invalid_request",
        message_id,
        0,
    )


# Running again.


async def test_a_stored_error_says_when_it_was_stored_and_another_run_can_be_asked_for(amqp_url, namespace):
    """The ids that an error carries are those that the next call needs."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        if "x-dspex-rerun" in message.headers:
            await stand.reply(message, success(message), headers={"x-dspex-generation": 4})
        else:
            headers = {"x-dspex-generation": 3, "x-dspex-stored": 1_800_000_000_000}
            await stand.reply(message, FAILED, headers=headers)

    async with (
        Stand(amqp_url, f"{namespace}.execute", answer) as stand,
        Client(amqp_url, namespace=namespace) as client,
    ):
        with pytest.raises(ReplyError) as caught:
            await client.execute("p", {"n": 1}, message_id="m")
        error = caught.value
        result = await client.execute("p", {"n": 1}, message_id=error.message_id, rerun_of=error.generation)

    assert (error.message_id, error.generation, error.stored_ms) == ("m", 3, 1_800_000_000_000)
    assert [(each.message_id, each.headers.get("x-dspex-rerun")) for each in stand.got] == [("m", None), ("m", 3)]
    assert (result.message_id, result.generation, result.stored_ms) == ("m", 4, None)


async def test_a_stored_result_says_when_it_was_stored(amqp_url, namespace):
    """In the body, where a relay has lost the header."""

    async def answer(stand: Stand, message: AbstractIncomingMessage) -> None:
        await stand.reply(message, {**success(message), "stored_ms": 17})

    async with Stand(amqp_url, f"{namespace}.execute", answer), Client(amqp_url, namespace=namespace) as client:
        result = await client.predict("a -> b", {"a": "x"}, message_id="m")

    assert (result.stored_ms, result.generation) == (17, None)


# Where no worker is.


async def test_a_job_is_published_at_once_and_waits_longer_where_no_worker_was_seen(amqp_url, namespace):
    """An autoscaler must see the queue grow, and the worker that it starts has its time."""
    async with Stand(amqp_url, f"{namespace}.execute", echo):
        pass
    async with Client(amqp_url, namespace=namespace, timeout=0.05, no_worker=("wait", 30_000)) as client:
        waiting = asyncio.create_task(client.execute("p", {"a": 1}))
        async with Stand(amqp_url, f"{namespace}.execute", echo) as stand:
            result = await waiting
    [message] = stand.got

    assert result.outputs == {"a": 1}
    assert 29_000 < timeout_ms(message) <= 30_050


async def test_a_queue_that_does_not_exist_yet_is_waited_for(amqp_url, namespace):
    """The first worker of a namespace makes it."""
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 30_000)) as client:
        waiting = asyncio.create_task(client.execute("p", {"a": 1}))
        await asyncio.sleep(0)
        async with Stand(amqp_url, f"{namespace}.execute", echo):
            result = await waiting

    assert result.outputs == {"a": 1}


async def test_a_queue_that_never_comes_is_said_in_the_end(amqp_url, namespace):
    """As it is said at once by those who do not wait."""
    async with Client(amqp_url, namespace=namespace, no_worker=("wait", 100)) as client:
        with pytest.raises(NoWorkerError, match="has a worker run in this namespace"):
            await client.execute("p", {})


async def test_a_bound_is_not_longer_where_a_worker_consumes(amqp_url, namespace):
    """The time is for workers that are still to come."""
    async with (
        Stand(amqp_url, f"{namespace}.execute", echo) as stand,
        Client(amqp_url, namespace=namespace, timeout=20, no_worker=("wait", 30_000)) as client,
    ):
        await client.execute("p", {})

    assert timeout_ms(stand.got[0]) == 20_000
