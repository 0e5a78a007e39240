"""Replaying and purging a part of the dead letters: what is meant moves, all else stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from tests.integration.amqp.conftest import MakeHandler, StartConsumer
from tests.integration.amqp.raw import peek, publish
from worker.amqp.channels import scratch_channel
from worker.amqp.connection import connect, user_of
from worker.amqp.dead_letters import AuditLine, Plan, Ports, Selection, purge, replay, show
from worker.amqp.errors import AuditError
from worker.amqp.topology import Topology, declare, measure
from worker.errors import InvalidInputsError
from worker.message import DeadLetter, Delivery, Letter, Reject


def own_user(connection: AbstractConnection) -> str:
    return user_of(str(connection.url))  # type: ignore[attr-defined]


async def bury(
    connection: AbstractConnection, topology: Topology, message_id: str, *, body: Any = None, **headers: Any
) -> None:
    """Put a dead letter into the execute queue, as a worker would."""
    given = {"x-dspex-generation": 0, "x-dspex-code": "lm_unavailable", "x-dspex-first-failed": 1_000, **headers}
    document = {"args": {"program_id": "sentiment", "inputs": {"text": "a"}}} if body is None else body
    await publish(
        connection,
        topology.dead_queue("execute"),
        json.dumps(document).encode(),
        message_id=message_id,
        user_id=own_user(connection),
        headers={name.replace("_", "-"): value for name, value in given.items()},
    )


async def messages(connection: AbstractConnection, queue: str) -> list[DeliveredMessage]:
    """Take all messages out of a queue."""
    async with scratch_channel(connection) as channel:
        found = [message async for message in peek(channel, queue, 1_000)]
        await channel.basic_ack(0, multiple=True)
    return found


async def work(connection: AbstractConnection, topology: Topology) -> list[str | None]:
    """Take what went back to work; return the message ids."""
    return [one.header.properties.message_id for one in await messages(connection, topology.work_queue("execute"))]


async def at_rest(connection: AbstractConnection, topology: Topology, *, count: int) -> None:
    """Wait until there are so many dead letters: the broker puts back what was looked at in its own time."""
    async with asyncio.timeout(10):
        while await measure(connection, topology.dead_queue("execute")) != (count, 0):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def dead(connection: AbstractConnection, topology: Topology, *, count: int) -> set[str | None]:
    """Return the message ids of the dead letters once there are so many again."""
    await at_rest(connection, topology, count=count)
    letters = await show(connection, topology, "execute", limit=1_000)
    await at_rest(connection, topology, count=count)
    return {letter.message_id for letter in letters}


@pytest.fixture(autouse=True)
async def declared(connection: AbstractConnection, topology: Topology) -> None:
    await declare(topology, connection)


@pytest.fixture
async def mixed(connection: AbstractConnection, topology: Topology) -> None:
    """Five letters, each different from the others in one thing."""
    await bury(connection, topology, "m0")
    await bury(connection, topology, "m1", x_dspex_code="timeout")
    await bury(connection, topology, "m2", body={"args": {"program_id": "other", "inputs": {}}})
    await bury(connection, topology, "m3", x_dspex_first_failed=9_000)
    await bury(connection, topology, "m4", x_dspex_tenant="ann")
    await bury(connection, topology, "m5", x_dspex_code="expired")


SELECTIONS = pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(codes=["timeout"]), ["m1"]),
        (Selection(not_codes=["lm_unavailable", "expired"]), ["m1"]),
        (Selection(programs=["other"]), ["m2"]),
        (Selection(failed_after_ms=5_000), ["m3"]),
        (Selection(failed_before_ms=5_000), ["m0", "m1", "m2", "m4"]),
        (Selection(tenant="ann"), ["m4"]),
        (Selection(message_ids=["m0", "m3"]), ["m0", "m3"]),
        (Selection(codes=["expired"]), ["m5"]),
        (Selection(), ["m0", "m1", "m2", "m3", "m4"]),
        (Selection(has_expired=True), ["m0", "m1", "m2", "m3", "m4", "m5"]),
    ],
)


@SELECTIONS
async def test_only_what_is_meant_is_replayed(
    mixed: None, connection: AbstractConnection, topology: Topology, selection: Selection, expected: list[str]
) -> None:
    """What does not match stays where it is."""
    report = await replay(connection, topology, "execute", plan=Plan(selection))
    left = await dead(connection, topology, count=6 - len(expected))

    assert report.replayed == report.total == len(expected)
    assert left == {"m0", "m1", "m2", "m3", "m4", "m5"} - set(expected)
    assert await work(connection, topology) == expected


@SELECTIONS
async def test_only_what_is_meant_is_purged(
    mixed: None, connection: AbstractConnection, topology: Topology, selection: Selection, expected: list[str]
) -> None:
    """Each with a line before it is gone; nothing goes to work."""
    lines: list[AuditLine] = []
    report = await purge(connection, topology, "execute", plan=Plan(selection), ports=Ports(audit=lines.append))
    left = await dead(connection, topology, count=6 - len(expected))

    assert report.purged == len(expected)
    assert [(line.action, line.message_id, line.generation_to) for line in lines] == [
        ("purge", message_id, None) for message_id in expected
    ]
    assert left == {"m0", "m1", "m2", "m3", "m4", "m5"} - set(expected)
    assert await work(connection, topology) == []


async def test_show_takes_the_same_filters(mixed: None, connection: AbstractConnection, topology: Topology) -> None:
    """Without one, it shows what only expired too."""
    every = await show(connection, topology, "execute")
    await at_rest(connection, topology, count=6)
    letters = await show(connection, topology, "execute", selection=Selection(tenant="ann"))

    assert [letter.message_id for letter in every] == ["m0", "m1", "m2", "m4", "m5", "m3"]
    assert [(letter.message_id, letter.tenant) for letter in letters] == [("m4", "ann")]


async def test_a_limit_counts_what_is_replayed(mixed: None, connection: AbstractConnection, topology: Topology) -> None:
    """The oldest first."""
    report = await replay(connection, topology, "execute", plan=Plan(limit=2))

    assert report.replayed == 2
    assert await work(connection, topology) == ["m0", "m1"]


@pytest.mark.parametrize("times", [range(1, 13), range(12, 0, -1)], ids=["rising", "falling"])
async def test_a_limit_is_reached_whatever_else_is_in_the_queue(
    connection: AbstractConnection, topology: Topology, times: range
) -> None:
    """It takes the oldest that match, wherever they lie, and so does the next run; nothing moves twice."""
    for number, failed_ms in enumerate(times):
        code = "timeout" if number % 4 == 0 else "lm_unavailable"
        await bury(connection, topology, f"m{number:02}", x_dspex_code=code, x_dspex_first_failed=failed_ms)
    plan = Plan(Selection(codes=["timeout"]), limit=2)
    oldest_first = sorted(("m00", "m04", "m08"), key=lambda name: times[int(name[1:])])
    lines: list[AuditLine] = []
    first = await replay(connection, topology, "execute", plan=plan, ports=Ports(audit=lines.append))
    await at_rest(connection, topology, count=10)
    second = await replay(connection, topology, "execute", plan=plan, ports=Ports(audit=lines.append))
    moved = [line.message_id for line in lines]

    assert (first.total, first.wanted, first.replayed, first.left) == (3, 2, 2, 1)
    assert (second.total, second.wanted, second.replayed) == (1, 1, 1)
    assert set(moved[:2]) == set(oldest_first[:2])
    assert moved[2:] == oldest_first[2:]


async def test_a_limit_of_a_purge_takes_the_oldest_that_match(
    mixed: None, connection: AbstractConnection, topology: Topology
) -> None:
    """Not those that come first."""
    await bury(connection, topology, "m6", x_dspex_first_failed=500)
    report = await purge(connection, topology, "execute", plan=Plan(Selection(programs=["sentiment"]), limit=2))

    assert (report.total, report.wanted, report.purged) == (5, 2, 2)
    assert await dead(connection, topology, count=5) == {"m1", "m2", "m3", "m4", "m5"}


async def test_with_a_limit_the_next_letter_takes_the_place_of_one_that_is_skipped(
    connection: AbstractConnection, topology: Topology
) -> None:
    """So that as many move as were asked for."""
    for number in range(4):
        await bury(connection, topology, f"m{number}", x_dspex_first_failed=number + 1)

    async def check(delivery: Delivery) -> bool:
        if delivery.message_id == "m0":
            raise InvalidInputsError("Missing required field: more")
        return True

    report = await replay(
        connection, topology, "execute", plan=Plan(limit=2, on_refusal="skip"), ports=Ports(check=check)
    )

    assert (report.wanted, report.replayed, [one.message_id for one in report.refusals]) == (2, 2, ["m0"])
    assert await work(connection, topology) == ["m1", "m2"]


async def test_a_letter_remembers_how_it_ended_before(
    connection: AbstractConnection, topology: Topology, make_handler: MakeHandler, start_consumer: StartConsumer
) -> None:
    """Through every replay, the first code included."""
    handler = make_handler(
        DeadLetter(Letter("lm_invalid_request", "no")), DeadLetter(Letter("timeout", "slow")), is_replying=False
    )
    await bury(connection, topology, "m0", x_dspex_first_failed=5, x_dspex_worker="w1")
    async with start_consumer(handler.handle):
        for deliveries in (1, 2):
            await replay(connection, topology, "execute")
            await handler.seen(deliveries)
            await at_rest(connection, topology, count=1)
    [letter] = await show(connection, topology, "execute")
    first, second = letter.history

    assert (first.code, first.failed_ms, first.generation, first.worker) == ("lm_unavailable", 5, 0, "w1")
    assert (second.code, second.generation) == ("lm_invalid_request", 1)
    assert (letter.code, letter.generation) == ("timeout", 2)


async def test_what_only_expired_is_told(mixed: None, connection: AbstractConnection, topology: Topology) -> None:
    """So that nobody wonders what is left."""
    report = await replay(connection, topology, "execute", plan=Plan(is_dry_run=True))
    purged = await purge(connection, topology, "execute", plan=Plan(is_dry_run=True))

    assert (report.expired, report.total, purged.expired) == (1, 5, 1)


async def test_a_line_is_written_after_the_confirm_and_before_the_letter_is_gone(
    connection: AbstractConnection, topology: Topology
) -> None:
    """An audit that fails leaves the letter, so nothing ever leaves without a line."""
    await bury(connection, topology, "m0", x_dspex_generation=1)
    lines: list[AuditLine] = []

    def fail(line: AuditLine) -> None:
        lines.append(line)
        raise AuditError("The disk is full")

    with pytest.raises(AuditError):
        await replay(connection, topology, "execute", ports=Ports(audit=fail))
    left = await dead(connection, topology, count=1)
    [line] = lines

    assert left == {"m0"}
    assert await work(connection, topology) == ["m0"]
    assert (line.action, line.message_id, line.generation_from, line.generation_to) == ("replay", "m0", 1, 2)
    assert (line.queue, line.code, line.broker_user) == (
        topology.dead_queue("execute"),
        "lm_unavailable",
        own_user(connection),
    )


async def test_a_stop_ends_after_the_message_in_hand(connection: AbstractConnection, topology: Topology) -> None:
    """With a report, and the rest left."""
    for number in range(4):
        await bury(connection, topology, f"m{number}")
    stop = asyncio.Event()
    ports = Ports(stop=stop, on_progress=lambda done, _: stop.set() if done == 2 else None)
    report = await replay(connection, topology, "execute", ports=ports)

    assert (report.is_interrupted, report.replayed) == (True, 2)
    assert (report.total, report.left, report.unseen) == (4, 2, 0)
    assert await dead(connection, topology, count=2) == {"m2", "m3"}
    assert await work(connection, topology) == ["m0", "m1"]


@pytest.mark.parametrize("plan", [Plan(), Plan(is_dry_run=True), Plan(limit=2)], ids=["all", "dry", "limit"])
async def test_a_run_that_came_to_its_end_has_seen_all_that_it_meant_to(
    connection: AbstractConnection, topology: Topology, plan: Plan
) -> None:
    """A limit is an end, too."""
    for number in range(4):
        await bury(connection, topology, f"m{number}")
    replayed = await replay(connection, topology, "execute", plan=plan)
    await at_rest(connection, topology, count=4 if plan.is_dry_run else 4 - replayed.replayed)
    purged = await purge(connection, topology, "execute", plan=plan)

    assert (replayed.unseen, purged.unseen) == (0, 0)


async def test_letters_that_somebody_else_holds_are_told(
    connection: AbstractConnection, topology: Topology, amqp_url: str
) -> None:
    """They are not replayed, so the run is not through; the next one takes them."""
    for number in range(5):
        await bury(connection, topology, f"m{number}")
    other = await connect(amqp_url, name="other")
    checked: list[Delivery] = []
    async with scratch_channel(other) as channel:

        async def check(delivery: Delivery) -> bool:
            checked.append(delivery)
            if len(checked) == 5:  # all were looked at; what goes back goes to who asks first
                await channel.basic_qos(prefetch_count=2)
                await channel.basic_consume(topology.dead_queue("execute"), asyncio.Queue[Any]().put)
            return True

        replayed = await replay(connection, topology, "execute", ports=Ports(check=check))
    await at_rest(connection, topology, count=2)
    again = await replay(connection, topology, "execute")
    await other.close()

    assert (replayed.total, replayed.wanted, replayed.replayed, replayed.left, replayed.unseen) == (5, 5, 3, 2, 2)
    assert (again.replayed, again.unseen, again.is_interrupted) == (2, 0, False)


async def test_a_rate_spaces_the_messages(connection: AbstractConnection, topology: Topology) -> None:
    """Ten a second: five take 0.4 seconds at least."""
    for number in range(5):
        await bury(connection, topology, f"m{number}")
    clock = asyncio.get_running_loop().time
    began = clock()
    report = await replay(connection, topology, "execute", plan=Plan(rate=10))

    assert report.replayed == 5
    assert clock() - began >= 0.4


async def test_a_patch_mends_the_arguments(connection: AbstractConnection, topology: Topology) -> None:
    """Where it makes no difference, that is counted, and the job goes back as it was."""
    await bury(connection, topology, "m0")
    await bury(connection, topology, "m1", body={"args": {"program_id": "sentiment", "inputs": {"text": "b"}}, "id": 7})
    lines: list[AuditLine] = []
    plan = Plan(patch={"inputs": {"text": "b"}})
    report = await replay(connection, topology, "execute", plan=plan, ports=Ports(audit=lines.append))
    bodies = [json.loads(one.body) for one in await messages(connection, topology.work_queue("execute"))]

    assert (report.replayed, report.patched) == (2, 1)
    assert [body["args"]["inputs"] for body in bodies] == [{"text": "b"}, {"text": "b"}]
    assert bodies[1]["id"] == 7
    assert [line.is_patched for line in lines] == [True, False]


async def test_nothing_moves_while_one_would_fail_again(connection: AbstractConnection, topology: Topology) -> None:
    """Unless it is skipped, or forced; what is checked is the job as patched, of the next generation."""
    await bury(connection, topology, "m0")
    await bury(connection, topology, "bad")
    await bury(connection, topology, "m2", x_dspex_deadline=1)
    seen: list[Delivery] = []

    async def check(delivery: Delivery) -> bool:
        seen.append(delivery)
        if delivery.message_id == "bad":
            raise InvalidInputsError("Missing required field: more")
        return delivery.message_id != "m2"

    async def run(**plan: Any) -> tuple[int, int, list[str]]:
        ports = Ports(check=check)
        given = Plan(patch={"inputs": {"text": "z"}}, **plan)
        report = await replay(connection, topology, "execute", plan=given, ports=ports)
        return report.replayed, report.unchecked, [refusal.code for refusal in report.refusals]

    stopped = await run()
    await dead(connection, topology, count=3)
    counted = await run(is_dry_run=True)
    await dead(connection, topology, count=3)
    skipped = await run(on_refusal="skip")
    await dead(connection, topology, count=1)
    forced = await run(on_refusal="force")

    assert (stopped, counted) == ((0, 1, ["invalid_inputs"]), (2, 1, ["invalid_inputs"]))
    assert (skipped, forced) == ((2, 1, ["invalid_inputs"]), (1, 0, []))
    assert await work(connection, topology) == ["m0", "m2", "bad"]
    assert {json.loads(delivery.body)["args"]["inputs"]["text"] for delivery in seen} == {"z"}
    assert {delivery.trail.generation for delivery in seen} == {1}
    assert not any("x-dspex-deadline" in delivery.headers for delivery in seen)


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"x_dspex_generation": 3}, None, "too_many_replays"),
        ({}, {"args": {"signature": "a -> b", "replace": True}}, "replaces_program"),
        ({}, {"args": [["signature", "a -> b"], ["replace", True]]}, "replaces_program"),
    ],
)
async def test_a_fourth_replay_and_a_replace_need_force(
    connection: AbstractConnection, topology: Topology, headers: dict[str, Any], body: Any, code: str
) -> None:
    """They hold up the others, for nothing else tells that they are there."""
    await bury(connection, topology, "m0", body=body, **headers)
    refused = await replay(connection, topology, "execute")
    await dead(connection, topology, count=1)
    forced = await replay(connection, topology, "execute", plan=Plan(on_refusal="force"))

    assert [refusal.code for refusal in refused.refusals] == [code]
    assert (refused.replayed, forced.replayed) == (0, 1)


async def test_a_replay_keeps_the_tenant_of_a_workers_letter(
    connection: AbstractConnection, topology: Topology, make_handler: MakeHandler, start_consumer: StartConsumer
) -> None:
    """The copy is the operator's own, so the header tells whose job it is."""
    await bury(connection, topology, "m0", x_dspex_tenant="ann", x_dspex_generation=1)
    await replay(connection, topology, "execute")
    [copy] = await messages(connection, topology.work_queue("execute"))
    headers = copy.header.properties.headers or {}

    assert (headers["x-dspex-tenant"], headers["x-dspex-generation"]) == ("ann", 2)


async def test_a_letter_that_the_broker_moved_is_its_publishers_whatever_it_says(
    connection: AbstractConnection, topology: Topology, make_handler: MakeHandler, start_consumer: StartConsumer
) -> None:
    """Forged headers give it neither another tenant nor a generation."""
    own = own_user(connection)
    forged = {"x-dspex-tenant": "ann", "x-dspex-code": "timeout"}
    handler = make_handler(Reject(), is_replying=False)
    async with start_consumer(handler.handle):
        await publish(connection, topology.work_queue("execute"), message_id="m0", user_id=own, headers=forged)
        await publish(connection, topology.work_queue("execute"), message_id="m1", headers=forged)
        await handler.seen(2)
    await dead(connection, topology, count=2)
    plain, nobodys = await show(connection, topology, "execute")
    await dead(connection, topology, count=2)
    await replay(connection, topology, "execute", plan=Plan(on_refusal="skip"))
    copies = [
        copy.header.properties.headers or {} for copy in await messages(connection, topology.work_queue("execute"))
    ]

    assert (plain.tenant, nobodys.tenant, nobodys.code) == (own, None, "broker:rejected")
    assert [headers.get("x-dspex-tenant") for headers in copies] == [own, None]
    assert [headers["x-dspex-generation"] for headers in copies] == [1, 1]
    assert plain.first_failed_ms is not None


async def test_a_set_that_always_fails_is_replayed_once_and_knows_its_replay(
    connection: AbstractConnection, topology: Topology, make_handler: MakeHandler, start_consumer: StartConsumer
) -> None:
    """The worker's next dead letter carries the replay's id, by which the replay would stop at it."""
    for number in range(30):
        await bury(connection, topology, f"m{number}")
    lines: list[AuditLine] = []
    handler = make_handler(DeadLetter(Letter("timeout", "too slow")), is_replying=False)
    async with start_consumer(handler.handle):
        report = await replay(connection, topology, "execute", ports=Ports(audit=lines.append))
        await handler.seen(30)
    letters = await messages(connection, topology.dead_queue("execute"))
    ids = {(one.header.properties.headers or {})["x-dspex-replay"] for one in letters}

    assert (report.replayed, len(handler.deliveries), len(letters)) == (30, 30, 30)
    assert ids == {line.run_id for line in lines}
    assert len(ids) == 1
