"""Tenants on one worker: each one's programs, jobs and results are its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.left_hand import (
    SENTIMENT,
    LeftHand,
    make_delivery,
    make_settings,
    open_left_hand,
    reply_of,
    stub_settings,
)
from tests.support.lm_stub import LMStub
from worker.message import Ack, AckIfReplied, DeadLetter, Trail

DIRECT = "amq.rabbitmq.reply-to.g1h2"


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    settings = make_settings(tenancy="user_id", trusted_users="operator", allow_reset=True)
    async with open_left_hand(tmp_path, settings) as opened:
        yield opened


async def call(hand: LeftHand, user: str | None, command: str, **args: Any) -> dict[str, Any]:
    """Call a command as a broker user; a None among the properties is left out."""
    properties = args.pop("properties", {})
    body = {"command": command, "args": args}
    given = {"reply_to": DIRECT, "user_id": user, **properties}
    return reply_of(await hand.handle(body, lane="control", **given))


async def create(hand: LeftHand, user: str, program_id: str = "p") -> dict[str, Any]:
    return await call(hand, user, "create_program", id=program_id, signature=SENTIMENT)


async def execute(hand: LeftHand, user: str, **properties: Any) -> dict[str, Any]:
    return await call(
        hand,
        user,
        "execute_program",
        program_id="p",
        inputs={"text": "x"},
        properties=properties | {"trail": Trail(waits=1)},
    )


def code_of(reply: dict[str, Any]) -> str:
    return "ok" if reply["success"] else str(reply["error_detail"]["code"])


async def test_a_job_without_a_user_is_refused(hand: LeftHand) -> None:
    """Before its body is even read; whoever sent it hears why."""
    outcome = await hand.handle(b"not JSON", reply_to=DIRECT)

    assert code_of(reply_of(outcome)) == "not_permitted"
    assert isinstance(outcome.settlement, AckIfReplied)
    assert "user_id" in reply_of(outcome)["error"]


async def test_who_does_not_say_who_he_is_sends_no_error_to_a_tenant(hand: LeftHand) -> None:
    """The refusal would be a reply, too."""
    outcome = await hand.handle({"command": "ping"}, lane="control", user_id=None, reply_to="dspex.reply.a")

    assert (outcome.reply, outcome.code) == (None, "reply_to_not_allowed")


async def test_a_copy_is_held_to_its_own_tenants_queues(hand: LeftHand) -> None:
    """A replay or a retry goes nowhere where its job may not."""
    trail = Trail(generation=1, tenant="a")
    outcomes = [
        await hand.handle({"command": "ping"}, lane="control", user_id="a", trail=trail, reply_to=reply_to)
        for reply_to in ("dspex.reply.b", "dspex.reply.a")
    ]

    assert [outcome.code for outcome in outcomes] == ["reply_to_not_allowed", "ok"]


async def test_the_user_does_not_matter_where_tenancy_is_off(tmp_path: Path) -> None:
    """One trust domain."""
    async with open_left_hand(tmp_path, make_settings()) as hand:
        await create(hand, "a")
        replies = [await execute(hand, user) for user in ("a", "b")]

    assert [code_of(reply) for reply in replies] == ["ok", "ok"]


async def test_a_program_is_its_tenants_own(hand: LeftHand) -> None:
    """Others cannot run, describe or delete it, and it is not in their lists."""
    await create(hand, "a")
    replies = [
        await execute(hand, "b"),
        *[
            await call(hand, "b", command, program_id="p")
            for command in ("get_program_info", "describe", "delete_program")
        ],
    ]
    listed = [await call(hand, user, "list_programs") for user in ("a", "b")]
    stats = [await call(hand, user, "get_stats") for user in ("a", "b")]

    assert {code_of(reply) for reply in replies} == {"program_not_found"}
    assert [one["result"]["total_count"] for one in listed] == [1, 0]
    assert [one["result"]["programs_count"] for one in stats] == [1, 0]
    assert code_of(await execute(hand, "a")) == "ok"


async def test_the_figures_of_the_worker_are_the_operators(hand: LeftHand) -> None:
    """They tell of all tenants' jobs and of the models; a tenant sees its own programs."""
    await create(hand, "a")
    await execute(hand, "a")
    figures = {user: (await call(hand, user, "get_stats"))["result"] for user in ("a", "operator")}

    assert set(figures["operator"]) - set(figures["a"]) == {
        "command_count",
        "error_count",
        "memory_usage",
        "in_flight",
        "cache",
        "lms",
        "circuits",
    }
    assert set(figures["a"]["adoption"]) == {"programs"}


async def test_a_job_without_ids_finds_its_tenants_program(hand: LeftHand) -> None:
    """It has no row that would tell."""
    await create(hand, "a")
    bare = {"message_id": None, "correlation_id": None}
    replies = [await execute(hand, user, **bare) for user in ("a", "b")]

    assert [code_of(reply) for reply in replies] == ["ok", "program_not_found"]


async def test_two_tenants_may_have_a_program_under_one_id(hand: LeftHand) -> None:
    """Neither exists for the other."""
    replies = [await create(hand, "a"), await call(hand, "b", "create_program", id="p", signature="q -> a")]

    assert [code_of(reply) for reply in replies] == ["ok", "ok"]
    assert [reply["result"]["program_version"] for reply in replies] == [1, 1]


async def test_the_same_message_id_of_two_tenants_is_two_jobs(hand: LeftHand) -> None:
    """No conflict, and replies with ids of their own."""
    bodies = ({"args": {"signature": f"{name} -> a", "inputs": {name: "x"}}} for name in ("q", "r"))
    outcomes = [
        await hand.handle(body, message_id="m", user_id=user, reply_to=DIRECT)
        for user, body in zip(("a", "b"), bodies, strict=True)
    ]
    ids = {outcome.reply.message_id for outcome in outcomes if outcome.reply is not None}

    assert [code_of(reply_of(outcome)) for outcome in outcomes] == ["ok", "ok"]
    assert len(ids) == 2


async def test_a_result_is_its_tenants_own(hand: LeftHand) -> None:
    """To others it is unknown."""
    await create(hand, "a")
    await execute(hand, "a", message_id="m")
    kept = [await call(hand, user, "get_result", message_id="m") for user in ("a", "b")]

    assert [one["result"]["status"] for one in kept] == ["done", "unknown"]


async def test_a_cancel_reaches_only_its_tenants_jobs(hand: LeftHand) -> None:
    """Another's job of the same id runs."""
    await create(hand, "a")
    for bare in ({}, {"message_id": None, "correlation_id": None}):
        assert code_of(await call(hand, "b", "cancel", message_id="m", properties=bare)) == "ok"

    assert code_of(await execute(hand, "a", message_id="m")) == "ok"


@pytest.mark.parametrize("command", ["cleanup", "reset_state"])
@pytest.mark.parametrize("ids", [{}, {"message_id": None, "correlation_id": None}], ids=["with a row", "without"])
async def test_a_reset_deletes_its_tenants_programs_only(hand: LeftHand, command: str, ids: dict[str, Any]) -> None:
    """However many others have."""
    for user in ("a", "b"):
        await create(hand, user)
    await call(hand, "b", command, properties=ids)
    listed = [await call(hand, user, "list_programs") for user in ("a", "b")]

    assert [one["result"]["total_count"] for one in listed] == [1, 0]


@pytest.mark.parametrize(("user", "commands", "counted"), [("a", 0, 3), ("operator", 2, 1)])
async def test_only_the_operator_resets_the_counts(hand: LeftHand, user: str, commands: int, counted: int) -> None:
    """They are those of all tenants: none of them may learn how busy the others are."""
    for tenant in ("a", "b"):
        await create(hand, tenant)
    reset = await call(hand, user, "reset_state")
    stats = await call(hand, "operator", "get_stats")

    assert reset["result"]["commands_reset"] == commands
    assert stats["result"]["command_count"] == counted


async def test_a_delete_without_ids_deletes_its_tenants_program(hand: LeftHand) -> None:
    """It has no row that would tell whose it is."""
    bare = {"message_id": None, "correlation_id": None}
    await create(hand, "a")
    replies = [await call(hand, user, "delete_program", program_id="p", properties=bare) for user in ("b", "a")]

    assert [code_of(reply) for reply in replies] == ["program_not_found", "ok"]


async def test_runs_are_counted_with_their_tenants_program(hand: LeftHand) -> None:
    """Of the same id."""
    for user in ("a", "b"):
        await create(hand, user)
    await execute(hand, "a")
    infos = [await call(hand, user, "get_program_info", program_id="p") for user in ("a", "b")]

    assert [info["result"]["execution_count"] for info in infos] == [1, 0]


@pytest.mark.parametrize(("user", "code"), [("a", "not_permitted"), ("operator", "ok"), ("guest", "ok")])
async def test_only_the_operator_sets_flags(hand: LeftHand, user: str, code: str) -> None:
    """They hold for every tenant; ``guest`` is the worker's own user here."""
    reply = await call(hand, user, "set_flag", name="dynamic_signatures", value="off")
    read = await call(hand, "a", "get_flags")

    assert code_of(reply) == code
    assert (read["result"]["flags"]["dynamic_signatures"] == "off") is (code == "ok")


@pytest.mark.parametrize("reply_to", ["orders", "b-replies", "dspex.execute", "dspex.reply.b", "dspex.reply.b.1"])
async def test_a_reply_cannot_be_sent_to_another_tenants_queue(hand: LeftHand, reply_to: str) -> None:
    """Only to queues that nobody can guess, or that are made for replies."""
    outcome = await hand.handle({"command": "ping"}, lane="control", user_id="a", reply_to=reply_to)

    assert (outcome.reply, outcome.code) == (None, "reply_to_not_allowed")
    assert isinstance(outcome.settlement, DeadLetter)


@pytest.mark.parametrize("reply_to", [DIRECT, "amq.gen-JzTY20", "amq_0123456789abcdef", "dspex.reply.a", None])
async def test_queues_for_replies_are_allowed(hand: LeftHand, reply_to: str | None) -> None:
    """The usual ways to get an answer."""
    outcome = await hand.handler.handle(
        make_delivery({"command": "ping"}, lane="control", user_id="a", reply_to=reply_to)
    )

    assert outcome.settlement == Ack()


async def test_no_tenant_is_answered_from_anothers_cache(tmp_path: Path) -> None:
    """A hit would tell that another one has sent the same prompt."""
    stub = LMStub()
    stub.outputs = {"sentiment": "positive", "confidence": "1"}
    await stub.start()
    args = {"signature": SENTIMENT, "inputs": {"text": "x"}, "options": {"cache": True}}
    async with open_left_hand(tmp_path, stub_settings(stub.url, tenancy="user_id")) as hand:
        replies = [await call(hand, user, "execute_program", **args) for user in ("a", "a", "b")]
    await stub.stop()

    assert [reply["result"]["usage"]["lm_calls"] for reply in replies] == [1, 0, 1]
    assert stub.calls == 2
