"""Listing, showing and replaying dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable

import pytest
from aio_pika.abc import AbstractConnection

from tests.integration.amqp.conftest import MakeHandler, StartConsumer, until
from tests.integration.amqp.raw import publish
from tests.integration.amqp.test_replay import bury
from tests.support.caller import Caller
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import connect, user_of
from worker.amqp.dead_letters import Plan, Ports, ReplayReport, find, list_dead, replay, show
from worker.amqp.errors import ReplayLockedError, ReplayStoppedError
from worker.amqp.topology import Topology, declare
from worker.message import Ack, DeadLetter, Letter, Reject

LETTER = Letter("lm_unavailable", "The LM is down", attempts=3, fingerprint="f00")


async def fail(
    caller: Caller, make_handler: MakeHandler, start_consumer: StartConsumer, *, count: int = 1
) -> list[str]:
    """Let so many jobs dead-letter; return their message ids."""
    handler = make_handler(DeadLetter(LETTER), is_replying=False)
    ids = [f"m{number}" for number in range(count)]
    async with start_consumer(handler.handle) as consumer:
        for message_id in ids:
            headers = {"x-dspex-deadline": 2**42, "tenant": "a"}
            body = {"args": {"program_id": "sentiment"}}
            await caller.publish("execute", body, message_id=message_id, headers=headers)
        await handler.seen(count)
        await until(lambda: consumer.in_flight("execute") == 0)
    return ids


async def test_list_counts_each_lane(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """A namespace nobody uses has no queues."""
    before = [queue.messages for queue in await list_dead(connection, topology)]
    await fail(caller, make_handler, start_consumer, count=2)
    after = {queue.lane: queue.messages for queue in await list_dead(connection, topology)}
    counted = await list_dead(connection, topology, has_groups=False)

    assert before == [None, None, None]
    assert after == {"create": 0, "execute": 2, "control": 0}
    assert [(queue.messages, queue.groups) for queue in counted] == [(0, []), (2, []), (0, [])]


async def test_list_counts_each_kind_of_letter(connection: AbstractConnection, topology: Topology) -> None:
    """By code, program and LM, with the oldest and the newest; the letters stay."""
    await declare(topology, connection)
    await bury(connection, topology, "m0", x_dspex_lm="fast", x_dspex_first_failed=30)
    await bury(connection, topology, "m1", x_dspex_lm="fast", x_dspex_first_failed=10)
    await bury(connection, topology, "m2", x_dspex_code="timeout", x_dspex_first_failed=20)
    body = {"args": {"signature": "a -> b", "options": [["lm", "slow"]]}}
    await bury(connection, topology, "m3", body=body, x_dspex_first_failed=40)
    first = await list_dead(connection, topology)
    second = await list_dead(connection, topology)
    groups = {
        (group.code, group.program_id, group.lm): (group.messages, group.oldest_ms, group.newest_ms)
        for queue in first
        for group in queue.groups
    }

    assert groups == {
        ("lm_unavailable", "sentiment", "fast"): (2, 10, 30),
        ("timeout", "sentiment", None): (1, 20, 20),
        ("lm_unavailable", None, "slow"): (1, 40, 40),
    }
    assert first == second


async def test_show_sorts_the_whole_queue_and_two_looks_agree(
    connection: AbstractConnection, topology: Topology
) -> None:
    """By time of failure, then id; letters that do not tell their time come last, whatever lies first."""
    await declare(topology, connection)
    for number in range(30):
        await bury(connection, topology, f"m{number:02}", x_dspex_first_failed=1_000 - number // 2)
    await bury(connection, topology, "a", x_dspex_first_failed="odd")
    looks = [[one.message_id for one in await show(connection, topology, "execute", limit=4)] for _ in range(4)]
    every = await show(connection, topology, "execute", limit=100)

    assert looks == [["m28", "m29", "m26", "m27"]] * 4
    assert every[-1].message_id == "a"


async def test_one_job_is_found_by_either_id(connection: AbstractConnection, topology: Topology) -> None:
    """With its body where that is asked for; nothing is kept of it else."""
    await declare(topology, connection)
    await bury(connection, topology, "m0")
    await bury(connection, topology, "m1", body={"args": {"inputs": {"text": "b"}}})
    [(letter, body)] = await find(connection, topology, "execute", "m1", has_body=True)
    bare = await find(connection, topology, "execute", "m1")

    assert letter.message_id == "m1"
    assert bare == [(letter, None)]
    assert json.loads(body or b"") == {"args": {"inputs": {"text": "b"}}}
    assert await find(connection, topology, "execute", "m2") == []


async def test_show_tells_what_happened_and_takes_nothing(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """Looking twice shows the same."""
    await fail(caller, make_handler, start_consumer, count=3)
    first = await show(connection, topology, "execute", limit=2)
    await until_ready(caller, 3)
    again = await show(connection, topology, "execute", limit=2)

    assert [letter.message_id for letter in first] == ["m0", "m1"]
    assert (first[0].code, first[0].message, first[0].attempts) == ("lm_unavailable", "The LM is down", 3)
    assert (first[0].program_id, first[0].worker, first[0].fingerprint) == ("sentiment", "worker-1", "f00")
    assert {letter.message_id for letter in again} <= {"m0", "m1", "m2"}


async def test_show_tells_what_the_broker_moved(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """A rejected message has no headers of ours."""
    async with start_consumer(make_handler(Reject(), is_replying=False).handle):
        await caller.publish("create", b"\xff", message_id="m1")
        await until_ready(caller, 1, queue="create.dead")
    [letter] = await show(connection, topology, "create")

    assert (letter.code, letter.message_id, letter.program_id) == ("broker:rejected", "m1", None)


async def test_a_replayed_job_is_a_fresh_one_of_the_next_generation(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """Ids and public headers are kept; attempts, deadline and the error are gone; the caller gets the reply."""
    await fail(caller, make_handler, start_consumer)
    steps: list[tuple[int, int]] = []
    ports = Ports(on_progress=lambda *step: steps.append(step))
    report = await replay(connection, topology, "execute", ports=ports)
    handler = make_handler(Ack())
    async with start_consumer(handler.handle):
        [delivery] = await handler.seen(1)

    assert (report.total, report.replayed, report.counts) == (1, 1, {("sentiment", "lm_unavailable"): 1})
    assert steps == [(1, 1)]
    assert (delivery.message_id, delivery.trail.generation, delivery.trail.attempts) == ("m0", 1, 0)
    assert delivery.trail.first_delivered_ms is None
    assert delivery.headers["tenant"] == "a"
    assert not {"x-dspex-deadline", "x-dspex-code", "x-dspex-first-failed"} & set(delivery.headers)
    assert await caller.depth("execute.dead") == 0


async def test_a_replay_stops_after_what_was_there(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """With a worker at work that fails every job again, each is replayed once."""
    await fail(caller, make_handler, start_consumer, count=5)
    handler = make_handler(DeadLetter(LETTER), is_replying=False)
    async with start_consumer(handler.handle):
        report = await replay(connection, topology, "execute")
        await handler.seen(5)
    letters = await show(connection, topology, "execute")

    assert report.replayed == 5
    assert len(handler.deliveries) == 5
    assert {letter.generation for letter in letters} == {1}


async def test_a_dry_run_counts_and_changes_nothing(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    connection: AbstractConnection,
    topology: Topology,
) -> None:
    """By program and code."""
    await fail(caller, make_handler, start_consumer, count=3)
    report = await replay(connection, topology, "execute", plan=Plan(is_dry_run=True))
    await until_ready(caller, 3)

    assert (report.is_dry_run, report.counts) == (True, {("sentiment", "lm_unavailable"): 3})
    assert await caller.depth("execute") == 0


async def test_an_interrupted_replay_loses_nothing(
    make_handler: MakeHandler,
    start_consumer: StartConsumer,
    caller: Caller,
    amqp_url: str,
    topology: Topology,
) -> None:
    """Broken off after two of five, it goes on later; every job arrives."""
    ids = await fail(caller, make_handler, start_consumer, count=5)
    broken = await connect(amqp_url, name="broken")

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await replay(broken, topology, "execute", ports=Ports(on_progress=interrupt))
    await broken.close()
    await until_ready(caller, 3)
    fresh = await connect(amqp_url, name="fresh")
    report = await replay(fresh, topology, "execute")
    await fresh.close()
    handler = make_handler(Ack())
    async with start_consumer(handler.handle):
        deliveries = await handler.seen(5)

    assert report.replayed == 3
    assert sorted(str(delivery.message_id) for delivery in deliveries) == ids


async def test_a_second_replay_of_the_same_queue_is_refused(
    connection: AbstractConnection, topology: Topology, amqp_url: str
) -> None:
    """An exclusive queue is the lock; the broker frees it with its connection."""
    await declare(topology, connection)
    other = await connect(amqp_url, name="other")
    async with scratch_channel(other) as channel:
        await channel.queue_declare(topology.replay_lock(topology.dead_queue("execute")), exclusive=True)
        with pytest.raises(ReplayLockedError):
            await replay(connection, topology, "execute")
    await other.close()

    async with asyncio.timeout(10):
        while (report := await unless_locked(replay(connection, topology, "execute"))) is None:  # noqa: ASYNC110
            # RabbitMQ 4.3 confirms the end of a connection before it has removed its exclusive queues.
            await asyncio.sleep(0.02)

    assert report.total == 0


async def unless_locked(replaying: Awaitable[ReplayReport]) -> ReplayReport | None:
    with contextlib.suppress(ReplayLockedError):
        return await replaying
    return None


async def test_a_replay_without_a_work_queue_stops_and_says_so(
    connection: AbstractConnection, topology: Topology, caller: Caller
) -> None:
    """The dead letter stays."""
    await declare(topology, connection)
    user_id = user_of(str(connection.url))  # type: ignore[attr-defined]
    await publish(connection, topology.dead_queue("execute"), b"{}", message_id="m1", user_id=user_id)
    async with scratch_channel(connection) as channel:
        await channel.queue_delete(topology.work_queue("execute"))
    with pytest.raises(ReplayStoppedError, match="start a worker"):
        await replay(connection, topology, "execute")
    await until_ready(caller, 1)


async def until_ready(caller: Caller, count: int, *, queue: str = "execute.dead") -> None:
    """Wait until the broker has put back what was looked at."""
    async with asyncio.timeout(10):
        while await caller.depth(queue) != count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)
