"""What a broker may do to a running worker besides dying: take rights and queues away, refuse, or never confirm."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from pamqp.common import FieldTable
from yarl import URL

from tests.faults.jobs import SIGNATURE, message_id_of, text_of
from tests.faults.lm_stub import Trouble
from tests.faults.load import Load
from tests.faults.oracle import Expected, depths, judge
from tests.faults.proxy import Proxy
from tests.faults.rooms import emptied, room, send, until
from tests.faults.stage import Stage
from tests.support.caller import Caller

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(120)]

_SETTINGS = {"delays_seconds": "0.3,1", "max_repairs": "0"}
_ALWAYS_GARBAGE = Trouble({"garbage": 1.0})


def body_of(number: int) -> dict[str, Any]:
    inputs = {"text": text_of(number)}
    return {"id": number, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": inputs}}


@contextlib.asynccontextmanager
async def channel_of(stage: Stage) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(stage.node.url) as connection:
        yield await connection.channel()


async def letters_of(stage: Stage, count: int) -> list[AbstractIncomingMessage]:
    """Wait for so many dead letters of execute jobs and take them."""
    name = f"{stage.namespace}.execute.dead"

    async def is_there() -> bool:
        return (await depths(stage, [name]))[name] >= count

    await until(is_there)
    async with channel_of(stage) as channel:
        queue = await channel.get_queue(name, ensure=False)
        return [await queue.get(no_ack=True) for _ in range(count)]


async def test_access_that_is_taken_away_is_said_and_given_back_all_goes_on(stage: Stage) -> None:
    """The log says whose right is missing and what to do; the job in hand is paid once, and nothing is lost."""
    user, password = f"u{secrets.token_hex(4)}", secrets.token_hex(8)
    await stage.ctl("add_user", user, password)
    await stage.ctl("set_permissions", user, ".*", ".*", ".*")
    url = URL(stage.node.url).with_user(user).with_password(password)
    async with (
        Proxy(stage.node.port) as proxy,
        room(stage, amqp_url=proxy.url(str(url)), **_SETTINGS) as own,
        own.load() as load,
    ):
        life = await own.workers.start()
        own.lm.hold()
        await load.publish([1], make_body=body_of)
        await own.lm.reach(1)
        await stage.ctl("set_permissions", user, "^$", "^$", "^$")
        proxy.reset()
        await life.logged(f"refused for user '{user}'. Give ")
        own.lm.let_go()
        await load.publish([2], make_body=body_of)
        await stage.ctl("set_permissions", user, ".*", ".*", ".*")
        await load.replied()
        await judge_at_end(own, load)

    assert own.lm.by_job == {1: 1, 2: 1}


async def test_a_queue_that_differs_when_a_worker_comes_back_is_named_with_what_to_do(stage: Stage) -> None:
    """Somebody declared it anew while the connection was lost: the worker lives on, and consumes when it is mended."""
    async with (
        Proxy(stage.node.port) as proxy,
        room(stage, amqp_url=proxy.url(stage.node.url), **_SETTINGS) as own,
        own.load() as load,
    ):
        name = f"{own.namespace}.execute"
        life = await own.workers.start()
        await proxy.refuse()
        proxy.reset()
        await life.logged("broker.unreachable")
        async with channel_of(own) as channel:
            await channel.queue_delete(name)
            arguments: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": 7}
            await channel.declare_queue(name, durable=True, arguments=arguments)
        await proxy.accept()
        await life.logged(f"The queue {name} has x-")
        async with channel_of(own) as channel:
            await channel.queue_delete(name)
        await load.publish([1], make_body=body_of)
        await load.replied()
        await judge_at_end(own, load)

    assert f"this worker wants {own.namespace}.dead. Empty the queue, delete it" in life.text()


async def judge_at_end(stage: Stage, load: Load, *, expected: Expected | None = None) -> None:
    await emptied(stage)
    assert [await life.stop() for life in stage.workers.lives] == [0] * len(stage.workers.lives)
    await judge(stage, load, expected=expected)


@pytest.mark.parametrize("missing", ["dead exchange", "dead queue", "ladder exchange", "ladder queue", "own exchange"])
async def test_what_is_deleted_under_a_worker_is_there_again_when_it_is_needed(missing: str, stage: Stage) -> None:
    """A job that needs the ladder and one that needs a dead letter both end as they should."""
    async with room(stage, **_SETTINGS) as own, own.load() as load:
        life = await own.workers.start()
        names = {"dead": f"{own.namespace}.dead", "ladder": f"{own.namespace}.delay.300", "own": own.namespace}
        what, _, kind = missing.partition(" ")
        name = f"{own.namespace}.execute.dead" if missing == "dead queue" else names[what]
        async with channel_of(own) as channel:
            await (channel.queue_delete(name) if kind == "queue" else channel.exchange_delete(name))
        own.lm.trouble = Trouble({"429": 1.0}, is_first_only=True)
        await load.publish([1], make_body=body_of)
        await load.replied()
        own.lm.trouble = _ALWAYS_GARBAGE
        await load.publish([2], make_body=body_of)
        await load.replied()
        await judge_at_end(own, load, expected=Expected(dead_letters=frozenset({2})))

    assert not life.text().count("Traceback")


async def test_a_reply_that_the_broker_refuses_is_kept(stage: Stage) -> None:
    """Nacked three times by a full queue: the job is acked, and its result can be asked for."""
    async with room(stage, **_SETTINGS) as own, Caller(own.node.url, own.namespace) as caller:
        full = f"{own.namespace}.reply.full"
        async with channel_of(own) as channel:
            arguments: FieldTable = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
            await channel.declare_queue(full, durable=True, arguments=arguments)
            await _fill(channel, full)
        life = await own.workers.start()
        await caller.publish("execute", body_of(1), message_id="m1", reply_to=full)
        await life.logged("reply.refused")
        await emptied(own)
        kept = await caller.call("control", {"command": "get_result", "args": {"message_id": "m1"}})

    assert kept["result"]["reply"]["success"] is True
    assert own.lm.by_job == {1: 1}


async def _fill(channel: AbstractChannel, name: str) -> None:
    """Publish until the queue refuses."""
    with contextlib.suppress(aio_pika.exceptions.DeliveryError):
        while True:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=name)


@contextlib.asynccontextmanager
async def unheard(stage: Stage, trouble: Trouble, *, has_reply: bool = True) -> AsyncIterator[tuple[Stage, Load]]:
    """Run job 1 to its first publish, of which its worker never hears; consuming goes on undisturbed."""
    async with Proxy(stage.node.port) as proxy:
        url = f"{proxy.url(stage.node.url)}?heartbeat=1"
        async with room(stage, amqp_url=url, **_SETTINGS) as own, own.load() as load:
            await own.workers.start()
            # Opens both channels: one for replies, one for copies.
            own.lm.trouble = Trouble({"429": 1.0}, is_first_only=True)
            await load.publish([0], make_body=body_of)
            await load.replied()
            own.lm.trouble = trouble
            own.lm.hold()
            if has_reply:
                await load.publish([1], make_body=body_of)
            else:
                await send(own, "execute", json.dumps(body_of(1)).encode(), message_id=message_id_of(1))
            await own.lm.reach(3)
            # A worker connects to publish first.
            proxy.muffle(1)
            own.lm.let_go()
            yield own, load


async def test_a_reply_that_is_never_confirmed_is_sent_again_under_the_same_id(stage: Stage) -> None:
    """Both copies arrive, equal to the byte, and the LM was asked once."""
    async with unheard(stage, Trouble()) as (own, load):
        await until(lambda: load.jobs[1].replies == 2)
        await judge_at_end(own, load)

    assert own.lm.by_job == {0: 2, 1: 1}


async def test_a_retry_that_is_never_confirmed_comes_back_twice_and_runs_once(stage: Stage) -> None:
    """Two copies on the ladder are one job: a second run would have been a third call."""
    async with unheard(stage, Trouble({"429": 1.0}, is_first_only=True)) as (own, load):
        await until(lambda: load.jobs[1].replies == 2)
        await judge_at_end(own, load)

    assert own.lm.by_job == {0: 2, 1: 2}


async def test_a_dead_letter_that_is_never_confirmed_is_there_twice_and_the_same(stage: Stage) -> None:
    """An operator can tell: same id, same headers, same body."""
    async with unheard(stage, _ALWAYS_GARBAGE, has_reply=False) as (own, _):
        first, second = await letters_of(own, 2)

    assert (first.message_id, first.body, first.headers) == (second.message_id, second.body, second.headers)
    assert own.lm.by_job == {0: 2, 1: 1}
