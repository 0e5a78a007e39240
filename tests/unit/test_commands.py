"""The commands, through the handler, on a real store and the offline LM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support.left_hand import (
    KNOWN_MODEL,
    SENTIMENT,
    LeftHand,
    make_settings,
    open_left_hand,
    reply_of,
    stub_settings,
)
from tests.support.lm_stub import LMStub
from tests.support.replies import unmarked
from worker.message import Ack, AckIfReplied, Delay, Trail
from worker.offline import OFFLINE_WARNING
from worker.store import Spent, StoreUnavailableError, Ticket

REFUSED = {"inputs": [{"name": "a", "type": "strnig"}], "outputs": [{"name": "b"}]}


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path) as opened:
        yield opened


def problem(reply: dict[str, Any]) -> dict[str, Any]:
    assert not reply["success"], reply
    return dict(reply["error_detail"])


def result(reply: dict[str, Any]) -> dict[str, Any]:
    assert reply["success"], reply
    return dict(reply["result"])


# create_program


async def test_a_created_program_is_described_in_the_documented_shape(hand: LeftHand) -> None:
    """What DSPex expects, and ours."""
    created = await hand.create(SENTIMENT, id="sentiment")

    assert set(created) == {
        "program_id",
        "status",
        "signature",
        "signature_def",
        "signature_normalized",
        "signature_class",
        "field_mapping",
        "signature_fingerprint",
        "program_version",
        "program_type",
        "is_dynamic",
        "fallback_used",
        "fallback_reason",
        "warnings",
    }
    assert (created["program_id"], created["status"], created["program_version"]) == ("sentiment", "created", 1)
    assert created["signature"] == created["signature_def"] == SENTIMENT
    assert created["signature_class"] == "ElixirMyAppSentiment"
    assert created["field_mapping"] == {"text": "text", "sentiment": "sentiment", "confidence": "confidence"}


async def test_question_and_answer_has_no_class_and_no_mapping(hand: LeftHand) -> None:
    """As in DSPex."""
    created = await hand.create(None, id="qa")

    assert (created["signature_class"], created["signature_normalized"], created["field_mapping"]) == (None, None, {})
    assert (created["is_dynamic"], created["fallback_used"]) == (False, False)


async def test_an_absent_id_is_made_of_the_definition(hand: LeftHand) -> None:
    """The seed creates without an id on every call, with a fresh time stamp."""
    first = await hand.create(SENTIMENT)
    again = await hand.create({**SENTIMENT, "metadata": {"created_at": "now"}})
    other = await hand.create({**SENTIMENT, "description": "Else"})

    assert first["program_id"].startswith("sig-")
    assert len(first["program_id"]) == 36
    assert again["program_id"] == first["program_id"]
    assert other["program_id"] != first["program_id"]
    assert result(await hand.call("list_programs"))["total_count"] == 2


async def test_the_same_definition_under_the_same_id_is_a_success_however_often(hand: LeftHand) -> None:
    """Its version stays."""
    versions = [(await hand.create(SENTIMENT, id="p"))["program_version"] for _ in range(3)]

    assert versions == [1, 1, 1]


async def test_another_definition_under_a_known_id_is_refused_unless_it_replaces(hand: LeftHand) -> None:
    """A replacement is a new version, at once."""
    await hand.create(SENTIMENT, id="p")
    refused = await hand.call("create_program", {"id": "p", "signature": "a -> b"})
    replaced = await hand.create("a -> b", id="p", replace=True)
    ran = result(await hand.call("execute_program", {"program_id": "p", "inputs": {"a": "x"}}))

    assert refused["error"] == "Program with ID 'p' already exists"
    assert (replaced["program_version"], ran["program_version"]) == (2, 2)
    assert set(ran["outputs"]) == {"b"}


async def test_a_fallback_is_said_in_the_reply(hand: LeftHand) -> None:
    """Never silent: flag, reason, and the whole error."""
    created = await hand.create(REFUSED, id="p", fallback="create")

    assert (created["fallback_used"], created["is_dynamic"], created["signature_class"]) == (True, False, None)
    assert created["fallback_reason"].startswith("unknown_type: ")
    assert created["warnings"][0]["code"] == "unknown_type"


async def test_a_refused_definition_names_the_field_and_the_place(hand: LeftHand) -> None:
    """Policy ``never``."""
    detail = problem(await hand.call("create_program", {"signature": REFUSED, "fallback": "never"}))

    assert (detail["code"], detail["field"], detail["recoverable"]) == ("unknown_type", "a", False)
    assert detail["message"].startswith("Failed to create program: ")
    assert detail["problems"][0]["path"].startswith("/signature/inputs/0")


async def test_unknown_arguments_are_warned_about(hand: LeftHand) -> None:
    """But for what DSPex always sends."""
    created = await hand.create(SENTIMENT, id="p", colour="red", session_id="s")

    assert created["warnings"] == ["Unknown argument ignored: colour"]


async def test_arguments_may_be_an_encoded_keyword_list(hand: LeftHand) -> None:
    """Elixir writes one as a list of pairs."""
    reply = await hand.call("create_program", [["id", "p"], ["signature", "a -> b"], ["config", []]])

    assert result(reply)["program_id"] == "p"


# execute_program


async def test_an_execute_reply_has_the_documented_shape(hand: LeftHand) -> None:
    """And says that the stand-in made it up."""
    await hand.create(SENTIMENT, id="p")
    ran = result(await hand.call("execute_program", {"program_id": "p", "inputs": {"text": "x"}, "options": []}))

    assert set(ran) == {
        "program_id",
        "outputs",
        "is_dynamic",
        "fallback_used",
        "fallback_reason",
        "usage",
        "attempts",
        "execution_time",
        "signature_fingerprint",
        "program_version",
        "warnings",
    }
    assert set(ran["usage"]) == {"lm_calls", "prompt_tokens", "completion_tokens", "cost_usd"}
    assert (ran["usage"]["lm_calls"], ran["attempts"], ran["warnings"]) == (1, 1, [OFFLINE_WARNING])
    assert 0 <= ran["execution_time"] < 60


async def test_a_float_is_written_with_a_fraction(hand: LeftHand) -> None:
    """Elixir tells 1 from 1.0."""
    definition = {"inputs": [{"name": "a"}], "outputs": [{"name": "x", "type": "float", "constraints": {"enum": [1]}}]}
    outcome = await hand.handle({"args": {"signature": definition, "inputs": {"a": "x"}}})

    assert outcome.reply is not None
    assert b'"x":1.0' in outcome.reply.body


async def test_a_definition_may_come_with_the_inputs_and_leaves_no_program(hand: LeftHand) -> None:
    """One message, one prediction."""
    ran = result(await hand.call("execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}}))

    assert (ran["program_id"], ran["program_version"], ran["is_dynamic"]) == (None, None, True)
    assert result(await hand.call("list_programs"))["total_count"] == 0


async def test_all_problems_of_the_inputs_are_named_before_any_call(hand: LeftHand) -> None:
    """With a pointer each; the sentence names the first."""
    definition = {"inputs": [{"name": "a"}, {"name": "b", "type": "integer"}], "outputs": [{"name": "c"}]}
    outcome = await hand.handle({"args": {"signature": definition, "inputs": {"b": "7"}}})
    reply = reply_of(outcome)

    assert reply["error"] == "Missing required field: a"
    assert [one["path"] for one in problem(reply)["problems"]] == ["/inputs/a", "/inputs/b"]
    assert (problem(reply)["code"], problem(reply)["attempts"]) == ("invalid_inputs", 0)
    assert isinstance(outcome.settlement, AckIfReplied)


async def test_inputs_that_the_signature_does_not_have_are_dropped_with_a_warning(hand: LeftHand) -> None:
    """As DSPex's validator does."""
    ran = result(await hand.call("execute_program", {"signature": SENTIMENT, "inputs": {"text": "x", "hint": 1}}))

    assert any("hint" in warning for warning in ran["warnings"])


async def test_an_unknown_program_takes_one_hop_before_it_is_refused(hand: LeftHand) -> None:
    """Its create job may be running on another worker."""
    body = {"args": {"program_id": "p", "inputs": {"text": "x"}}}
    first = await hand.handle(body, message_id="m")
    assert isinstance(first.settlement, Delay)
    second = await hand.handle(body, message_id="m", trail=first.settlement.trail)

    assert reply_of(second)["error"] == "Program not found: p"
    assert isinstance(second.settlement, AckIfReplied)


async def test_a_program_that_is_created_meanwhile_runs(hand: LeftHand) -> None:
    """On the second delivery."""
    body = {"args": {"program_id": "p", "inputs": {"text": "x"}}}
    first = await hand.handle(body, message_id="m")
    await hand.create(SENTIMENT, id="p")
    assert isinstance(first.settlement, Delay)

    assert reply_of(await hand.handle(body, message_id="m", trail=first.settlement.trail))["success"]


async def test_without_a_program_or_a_signature_the_id_is_asked_for(hand: LeftHand) -> None:
    """A fixed sentence."""
    reply = await hand.call("execute_program", {"inputs": {}})

    assert (reply["error"], problem(reply)["code"]) == ("Program ID is required", "invalid_request")


async def test_a_paid_job_whose_result_nobody_could_see_is_refused(hand: LeftHand) -> None:
    """Neither ``reply_to`` nor ``message_id``."""
    outcome = await hand.handle(
        {"args": {"signature": SENTIMENT, "inputs": {"text": "x"}}}, reply_to=None, message_id=None
    )

    assert (outcome.code, outcome.reply) == ("invalid_request", None)


async def test_an_unknown_alias_is_named_with_those_that_there_are(hand: LeftHand) -> None:
    """After the fixed words that DSPex knows."""
    reply = await hand.call(
        "execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}, "options": {"lm": KNOWN_MODEL}}
    )

    assert problem(reply)["code"] == "lm_not_configured"
    assert reply["error"] == f"No LM is loaded: there is no alias '{KNOWN_MODEL}'; available aliases: default"


async def test_a_cost_budget_that_would_not_be_kept_is_refused(hand: LeftHand) -> None:
    """Never accepted in silence."""
    reply = await hand.call(
        "execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}, "options": {"max_cost_usd": 0.1}}
    )

    assert problem(reply)["field"] == "max_cost_usd"


async def test_a_time_limit_above_the_workers_is_cut_with_a_warning(hand: LeftHand) -> None:
    """The worker's own nests with the broker's."""
    ran = result(
        await hand.call(
            "execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}, "options": {"timeout_ms": 900_000}}
        )
    )

    assert "timeout_ms was cut to this worker's limit of 300000" in ran["warnings"]


@pytest.mark.parametrize(
    ("option", "program", "expected"), [("b", "a", "b"), (None, "a", "a"), (None, None, "default")]
)
async def test_options_win_over_the_program_which_wins_over_the_setting(
    tmp_path: Path, option: str | None, program: str | None, expected: str
) -> None:
    """Here: the alias."""
    stubs = {name: LMStub() for name in ("default", "a", "b")}
    for stub in stubs.values():
        stub.outputs = {"sentiment": "positive", "confidence": "1"}
        await stub.start()
    chat = {"model": KNOWN_MODEL, "api_key": "k", "structured_outputs": False}
    aliases = {name: {**chat, "api_base": stubs[name].url} for name in ("a", "b")}
    settings = stub_settings(stubs["default"].url, lms=json.dumps(aliases))
    async with open_left_hand(tmp_path, settings) as hand:
        args = {"signature": SENTIMENT, "lm": program, "inputs": {"text": "x"}, "options": {"lm": option}}
        result(await hand.call("execute_program", args))
    for stub in stubs.values():
        await stub.stop()

    assert [name for name, stub in stubs.items() if stub.calls] == [expected]


async def test_the_replys_warnings_hold_no_secret_and_no_call_is_hidden(tmp_path: Path) -> None:
    """One job, one request, one counted call with its price."""
    stub = LMStub()
    stub.outputs = {"sentiment": "positive", "confidence": "1"}
    await stub.start()
    async with open_left_hand(tmp_path, stub_settings(stub.url)) as hand:
        ran = result(await hand.call("execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}}))
    await stub.stop()

    assert (stub.calls, ran["usage"]["lm_calls"], ran["warnings"]) == (1, 1, [])
    assert ran["usage"]["cost_usd"] == pytest.approx(2.1e-05)


# Control


async def test_ping_says_that_a_worker_lives(hand: LeftHand) -> None:
    """DSPex's shape, and which worker it is."""
    pong = result(await hand.call("ping"))

    assert set(pong) == {
        "status",
        "timestamp",
        "dspy_available",
        "gemini_available",
        "uptime",
        "mode",
        "worker_id",
        "version",
    }
    assert (pong["status"], pong["worker_id"], pong["gemini_available"]) == ("ok", "worker-1", False)


async def test_programs_are_listed_with_their_runs(hand: LeftHand) -> None:
    """Oldest first; counted at once for this worker's own."""
    await hand.create(SENTIMENT, id="p")
    await hand.create("a -> b", id="q")
    before = result(await hand.call("list_programs"))["programs"]
    await hand.call("execute_program", {"program_id": "p", "inputs": {"text": "x"}})
    after = result(await hand.call("list_programs"))["programs"]

    assert [set(one) for one in before] == [{"id", "created_at", "execution_count", "last_executed", "signature"}] * 2
    assert [(one["id"], one["execution_count"], one["last_executed"]) for one in before] == [
        ("p", 0, None),
        ("q", 0, None),
    ]
    assert (after[0]["execution_count"], after[1]["execution_count"]) == (1, 0)
    assert after[0]["last_executed"] >= after[0]["created_at"]
    assert after[1]["signature"] == "a -> b"


async def test_a_program_is_described_as_it_was_sent(hand: LeftHand) -> None:
    """DSPex's bridge raised KeyError here."""
    await hand.create(SENTIMENT, id="p", lm="fast", config={"temperature": 0.5})
    info = result(await hand.call("get_program_info", {"program_id": "p"}))

    assert (info["program_id"], info["signature"], info["execution_count"]) == ("p", SENTIMENT, 0)
    assert (info["lm"], info["config"], info["is_dynamic"]) == ("fast", {"temperature": 0.5}, True)


@pytest.mark.parametrize("command", ["get_program_info", "delete_program"])
@pytest.mark.parametrize("args", [{}, {"program_id": ""}, {"program_id": 7}])
async def test_a_missing_program_id_is_asked_for(hand: LeftHand, command: str, args: dict[str, Any]) -> None:
    """A fixed sentence."""
    assert (await hand.call(command, args))["error"] == "Program ID is required"


async def test_an_unknown_program_cannot_be_described(hand: LeftHand) -> None:
    """At once: nothing is paid for."""
    assert (await hand.call("get_program_info", {"program_id": "p"}))["error"] == "Program not found: p"


async def test_a_deleted_program_is_gone_and_its_results_stay(hand: LeftHand) -> None:
    """A replay of the delete is the same success."""
    await hand.create(SENTIMENT, id="p")
    await hand.call("execute_program", {"program_id": "p", "inputs": {"text": "x"}}, message_id="run-1")
    deleted = [await hand.call("delete_program", {"program_id": "p"}, message_id="d") for _ in range(2)]
    kept = result(await hand.call("get_result", {"message_id": "run-1"}))

    assert [result(one) for one in deleted] == [{"program_id": "p", "status": "deleted"}] * 2
    assert result(await hand.call("list_programs"))["programs"] == []
    assert kept["status"] == "done"


async def test_deleting_an_unknown_program_is_refused(hand: LeftHand) -> None:
    """After the wait, where there was one."""
    reply = await hand.call("delete_program", {"program_id": "p"}, trail=Trail(waits=1))

    assert reply["error"] == "Program not found: p"


async def test_a_kept_reply_is_returned_as_it_was_sent(hand: LeftHand) -> None:
    """Whole, with its id."""
    outcome = await hand.handle(
        {"id": 9, "args": {"signature": SENTIMENT, "inputs": {"text": "x"}}}, message_id="m", reply_to=None
    )
    kept = result(await hand.call("get_result", {"message_id": "m"}))

    assert (outcome.reply, outcome.settlement) == (None, Ack())
    assert (kept["message_id"], kept["status"], kept["reply"]["id"]) == ("m", "done", 9)
    assert kept["reply"]["success"]


async def test_a_result_that_is_not_kept_is_unknown(hand: LeftHand) -> None:
    """No error: the job may still run."""
    assert result(await hand.call("get_result", {"message_id": "m"})) == {
        "message_id": "m",
        "status": "unknown",
        "generation": None,
        "stored_ms": None,
        "reply": None,
    }


@pytest.mark.parametrize("args", [{}, {"message_id": ""}, {"message_id": 7}])
async def test_a_result_is_asked_for_by_message_id(hand: LeftHand, args: dict[str, Any]) -> None:
    """And by nothing else."""
    assert problem(await hand.call("get_result", args))["field"] == "message_id"


async def test_the_stats_hold_what_dspex_reads_and_ours(hand: LeftHand) -> None:
    """Counts of this worker."""
    await hand.create(SENTIMENT, id="p")
    await hand.call("nonsense")
    stats = result(await hand.call("get_stats"))

    assert {"programs_count", "command_count", "error_count", "uptime", "memory_usage", "dspy_available"} <= set(stats)
    assert set(stats["memory_usage"]) == {"rss", "vms", "percent"}
    assert (stats["programs_count"], stats["command_count"], stats["error_count"]) == (1, 2, 1)
    assert (stats["in_flight"], stats["lms"]) == (1, {"default": "offline"})
    assert set(stats["cache"]["program"]) == {"hits", "misses", "entries"}


async def test_gemini_is_available_where_an_alias_is_gemini(tmp_path: Path) -> None:
    """DSPex asks before it sends."""
    settings = make_settings(lms=json.dumps({"g": {"model": "gemini/gemini-2.5-flash"}}))
    async with open_left_hand(tmp_path, settings) as hand:
        assert result(await hand.call("ping"))["gemini_available"]


@pytest.mark.parametrize("error", [StoreUnavailableError, asyncio.CancelledError, RuntimeError])
async def test_run_counts_survive_a_write_that_fails(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """They are written with the next flush."""
    await hand.create(SENTIMENT, id="p")
    await hand.call("execute_program", {"program_id": "p", "inputs": {"text": "x"}})

    async def fail(counts: object) -> None:
        raise error("down")

    with monkeypatch.context() as broken:
        broken.setattr(hand.store, "add_executions", fail)
        with pytest.raises(error):
            await hand.commands.flush_runs()

    assert result(await hand.call("get_program_info", {"program_id": "p"}))["execution_count"] == 1


async def test_a_job_without_a_row_waits_for_a_store_that_is_down(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no bug of the job."""
    await hand.create(SENTIMENT, id="p")
    real = hand.store.get_program
    calls: list[str] = []

    async def down_once(program_id: str, *, tenant: str) -> Any:
        calls.append(program_id)
        if len(calls) == 1:
            raise StoreUnavailableError("down")
        return await real(program_id, tenant=tenant)

    monkeypatch.setattr(hand.store, "get_program", down_once)
    reply = await hand.call(
        "execute_program", {"program_id": "p", "inputs": {"text": "x"}}, message_id=None, correlation_id=None
    )

    assert reply["success"]


async def test_a_repeated_create_describes_what_is_stored(tmp_path: Path) -> None:
    """The decision was made when the program was created; today's flags do not change what it is."""
    async with open_left_hand(tmp_path, make_settings()) as hand:
        first = await hand.call("create_program", {"id": "p", "signature": SENTIMENT, "fallback": "create"})
    async with open_left_hand(tmp_path, make_settings(dynamic_signatures=False)) as hand:
        second = await hand.call("create_program", {"id": "p", "signature": SENTIMENT, "fallback": "create"})

    assert first["result"]["is_dynamic"]
    assert second["result"]["is_dynamic"]
    assert second["result"]["field_mapping"] == first["result"]["field_mapping"]


async def test_a_program_and_a_signature_together_are_warned_about(tmp_path: Path) -> None:
    """The program runs."""
    async with open_left_hand(tmp_path, make_settings()) as hand:
        await hand.create(SENTIMENT, id="p")
        reply = await hand.call("execute_program", {"program_id": "p", "signature": "a -> b", "inputs": {"text": "x"}})

    assert reply["result"]["outputs"].keys() == {"sentiment", "confidence"}
    assert "The signature was ignored: the job names a program" in reply["result"]["warnings"]


# Callers that have gone

DIRECT = "amq.rabbitmq.reply-to.g1h2"
RUN = {"args": {"signature": "q -> a", "inputs": {"q": "x"}}}


@pytest.mark.parametrize(
    ("choice", "reply_to", "is_asked"),
    [
        (None, DIRECT, True),
        (None, "replies", False),
        ("skip", DIRECT, True),
        ("skip", "replies", True),
        ("run", DIRECT, False),
        ("run", "replies", False),
    ],
)
async def test_a_caller_that_has_gone_is_not_paid_for(
    tmp_path: Path, choice: str | None, reply_to: str, is_asked: bool
) -> None:
    """No reply, no dead letter, no row; whose callers are asked after is the operator's choice."""
    async with open_left_hand(tmp_path, make_settings(when_caller_gone=choice or " ")) as hand:
        hand.gone.add(reply_to)
        outcome = await hand.handle(RUN, reply_to=reply_to, message_id="m")
        state = await hand.store.get_state("m")

    assert hand.asked == ([reply_to] if is_asked else [])
    assert (outcome.code, outcome.settlement) == ("caller_gone" if is_asked else "ok", Ack())
    assert (outcome.reply is None, state) == (is_asked, None if is_asked else "done")


@pytest.mark.parametrize(
    "properties", [{}, {"message_id": None, "correlation_id": None}], ids=["with a row", "without"]
)
async def test_a_caller_that_waits_is_answered(hand: LeftHand, properties: dict[str, Any]) -> None:
    """One look, right before the LM."""
    reply = reply_of(await hand.handle(RUN, reply_to=DIRECT, **properties))

    assert (reply["success"], hand.asked) == (True, [DIRECT])


@pytest.mark.parametrize(
    "body",
    [
        {"args": {}},
        {"args": {"program_id": "p", "inputs": {}}},
        {"command": "create_program", "args": {"signature": "q"}},
    ],
)
async def test_nobody_is_looked_after_for_what_costs_nothing(hand: LeftHand, body: dict[str, Any]) -> None:
    """A refusal is free, and so is the look that it saves."""
    await hand.handle(body, reply_to=DIRECT, trail=Trail(waits=1))

    assert hand.asked == []


async def test_a_replayed_job_runs_for_nobody(hand: LeftHand) -> None:
    """The operator wants it; the result is kept."""
    hand.gone.add(DIRECT)
    outcome = await hand.handle(RUN, reply_to=DIRECT, message_id="m", trail=Trail(generation=1))

    assert (outcome.code, hand.asked) == ("ok", [])


async def test_a_stored_result_is_repeated_whoever_waits(hand: LeftHand) -> None:
    """It is paid for already."""
    first = await hand.handle(RUN, reply_to=DIRECT, message_id="m", correlation_id="c")
    hand.gone.add(DIRECT)
    second = await hand.handle(RUN, reply_to=DIRECT, message_id="m", correlation_id="c")

    assert (unmarked(second.reply), second.settlement) == (first.reply, Ack())


# Pages and states


async def test_programs_are_listed_page_by_page(hand: LeftHand) -> None:
    """The count is that of all."""
    for name in ("c", "a", "b"):
        await hand.create(SENTIMENT, id=name)
    pages = [result(await hand.call("list_programs", {"limit": 2, "offset": offset})) for offset in (0, 2, 9)]

    assert [[one["id"] for one in page["programs"]] for page in pages] == [["c", "a"], ["b"], []]
    assert {page["total_count"] for page in pages} == {3}


@pytest.mark.parametrize(
    "args", [{"limit": 0}, {"limit": -1}, {"limit": "2"}, {"limit": True}, {"offset": -1}, {"offset": 2**63}]
)
async def test_a_page_needs_numbers(hand: LeftHand, args: dict[str, Any]) -> None:
    """The refusal names the argument."""
    assert problem(await hand.call("list_programs", args))["field"] in args


async def test_a_very_long_page_is_a_long_one(hand: LeftHand) -> None:
    """Nobody is refused for wanting all."""
    assert result(await hand.call("list_programs", {"limit": 10**9}))["total_count"] == 0


@pytest.mark.parametrize("state", ["running", "waiting"])
async def test_a_job_that_is_not_done_says_how_far_it_is(hand: LeftHand, state: str) -> None:
    """Without a reply yet."""
    ticket = Ticket("m", "hash")
    claim = await hand.store.claim(ticket)
    if state == "waiting":
        await hand.store.release(ticket, token=claim.token, spent=Spent(), is_attempt=False)

    assert result(await hand.call("get_result", {"message_id": "m"})) == {
        "message_id": "m",
        "status": state,
        "generation": None,
        "stored_ms": None,
        "reply": None,
    }


async def test_only_programs_that_were_made_are_counted_as_made(hand: LeftHand) -> None:
    """Not those that were there, nor a create that is delivered again; a new version counts."""

    def made() -> float:
        return REGISTRY.get_sample_value("dspex_programs_created_total", {"type": "dynamic"}) or 0.0

    before = made()
    args = {"id": "p", "signature": SENTIMENT}
    for ids in ({}, {}, {"message_id": "m", "correlation_id": "c"}, {"message_id": "m", "correlation_id": "c"}):
        assert (await hand.call("create_program", args, **ids))["success"]
    once = made()
    await hand.call("create_program", {"id": "p", "signature": "q: string -> a: integer", "replace": True})

    assert (once - before, made() - once) == (1, 1)
