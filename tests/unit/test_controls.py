"""The control commands: flags, cancels, resets, and what DSPex's own bridge answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, validate  # type: ignore[import-untyped]

from tests.support.left_hand import (
    KNOWN_MODEL,
    SECRET,
    SENTIMENT,
    LeftHand,
    make_settings,
    open_left_hand,
    reply_of,
    stub_settings,
)
from tests.support.lm_stub import LMStub
from tests.support.replies import unmarked_body
from worker.message import Ack, AckIfReplied, DeadLetter, Trail
from worker.store import StoreUnavailableError

RUN = {"program_id": "p", "inputs": {"text": "x"}}


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path) as opened:
        yield opened


@pytest.fixture
async def stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    stub.behaviour = stub.hang
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
async def slow(tmp_path: Path, stub: LMStub) -> AsyncIterator[LeftHand]:
    """A hand whose LM never answers."""
    async with open_left_hand(tmp_path, stub_settings(stub.url)) as opened:
        yield opened


def problem(reply: dict[str, Any]) -> dict[str, Any]:
    assert not reply["success"], reply
    return dict(reply["error_detail"])


def result(reply: dict[str, Any]) -> dict[str, Any]:
    assert reply["success"], reply
    return dict(reply["result"])


async def set_flag(hand: LeftHand, value: object, name: str = "dynamic_signatures") -> dict[str, Any]:
    return result(await hand.call("set_flag", {"name": name, "value": value}))


# Flags


async def test_flags_are_shown_as_they_hold_and_which_were_set(hand: LeftHand) -> None:
    """The others have the start values of the environment."""
    before = result(await hand.call("get_flags"))
    said = [await set_flag(hand, 7, "dynamic_signatures_rollout"), await set_flag(hand, "off")]
    after = result(await hand.call("get_flags"))

    assert before == {"flags": {"dynamic_signatures": "on", "dynamic_signatures_rollout": 100}, "set": []}
    assert said == [
        {"name": "dynamic_signatures_rollout", "value": 7, "previous": 100},
        {"name": "dynamic_signatures", "value": "off", "previous": "on"},
    ]
    assert after == {
        "flags": {"dynamic_signatures": "off", "dynamic_signatures_rollout": 7},
        "set": ["dynamic_signatures", "dynamic_signatures_rollout"],
    }


@pytest.mark.parametrize(
    ("args", "field", "words"),
    [
        ({}, "name", "dynamic_signatures and dynamic_signatures_rollout"),
        ({"name": "speed", "value": "on"}, "name", "'speed' is no flag"),
        ({"name": "dynamic_signatures"}, "value", "on, off or force_off"),
        ({"name": "dynamic_signatures_rollout", "value": 101}, "value", "from 0 to 100"),
    ],
)
async def test_an_unknown_flag_or_value_is_refused_with_what_is_known(
    hand: LeftHand, args: dict[str, Any], field: str, words: str
) -> None:
    """And nothing is set."""
    detail = problem(await hand.call("set_flag", args))

    assert (detail["code"], detail["field"]) == ("invalid_request", field)
    assert words in detail["message"]
    assert await hand.store.get_flags() == {}


async def test_setting_a_flag_runs_once(hand: LeftHand) -> None:
    """A redelivery repeats the reply and does not undo what came after."""
    args = {"name": "dynamic_signatures", "value": "off"}
    first = await hand.call("set_flag", args, message_id="m")
    await set_flag(hand, "on")
    second = await hand.call("set_flag", args, message_id="m")

    assert first == unmarked_body(second)
    assert await hand.store.get_flags() == {"dynamic_signatures": "on"}


async def test_off_is_for_what_is_not_decided_yet(hand: LeftHand) -> None:
    """A program that exists keeps its signature, a new one does not get its own."""
    await hand.create(SENTIMENT, id="p")
    await set_flag(hand, "off")
    old = result(await hand.call("execute_program", RUN))
    new = await hand.create(SENTIMENT, id="q")
    explicit = await hand.create(SENTIMENT, id="r", use_dynamic_signature=True)
    insisting = await hand.call("create_program", {"id": "s", "signature": SENTIMENT, "fallback": "never"})

    assert (old["is_dynamic"], new["is_dynamic"], explicit["is_dynamic"]) == (True, False, True)
    assert problem(insisting)["code"] == "dynamic_signatures_off"


async def test_forced_off_every_run_is_question_and_answer(hand: LeftHand) -> None:
    """Existing programs, explicit ones and one-message predictions; never in silence."""
    await hand.create(SENTIMENT, id="p")
    await hand.create(SENTIMENT, id="q", use_dynamic_signature=True)
    await set_flag(hand, "force_off")
    jobs = [
        RUN,
        {**RUN, "program_id": "q"},
        {"signature": SENTIMENT, "inputs": {"text": "x"}, "use_dynamic_signature": True},
    ]
    forced = [result(await hand.call("execute_program", args)) for args in jobs]
    created = await hand.create("a -> b", id="r")
    await set_flag(hand, "on")
    after = [result(await hand.call("execute_program", args))["is_dynamic"] for args in jobs]
    later = result(await hand.call("execute_program", {"program_id": "r", "inputs": {"a": "x"}}))

    for one in forced:
        assert set(one["outputs"]) == {"answer"}
        assert (one["is_dynamic"], one["fallback_used"]) == (False, False)
        assert any("every run" in warning for warning in one["warnings"])
    assert (created["is_dynamic"], created["signature_class"], created["field_mapping"]) == (False, None, {})
    assert (after, later["is_dynamic"]) == ([True] * 3, True)


async def test_forced_off_who_insists_is_refused_and_pays_nothing(hand: LeftHand) -> None:
    """At create and at each run; the job's own policy decides."""
    await hand.create(SENTIMENT, id="p", fallback="never")
    await set_flag(hand, "force_off")
    refused = [
        await hand.call("execute_program", RUN),
        await hand.call("execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}, "fallback": "never"}),
        await hand.call("create_program", {"id": "q", "signature": SENTIMENT, "fallback": "never"}),
    ]
    accepting = result(await hand.call("execute_program", {**RUN, "options": {"fallback": "create"}}))

    assert [problem(reply)["code"] for reply in refused] == ["dynamic_signatures_off"] * 3
    assert [problem(reply)["attempts"] for reply in refused] == [0] * 3
    assert not accepting["is_dynamic"]


async def test_the_rollout_holds_for_the_next_definition(hand: LeftHand) -> None:
    """Without a restart, and stored with the program."""
    await set_flag(hand, 0, "dynamic_signatures_rollout")
    outside = await hand.create(SENTIMENT, id="p")
    await set_flag(hand, 100, "dynamic_signatures_rollout")
    ran = result(await hand.call("execute_program", RUN))

    assert (outside["is_dynamic"], outside["fallback_used"], ran["is_dynamic"]) == (False, False, False)


# Adoption


async def test_the_stats_tell_how_far_dynamic_signatures_are_adopted(hand: LeftHand) -> None:
    """Programs of all workers, jobs of this one, by type; no share of nothing."""
    before = result(await hand.call("get_stats"))["adoption"]
    await hand.create(SENTIMENT, id="p")
    await hand.create(None, id="q")
    await hand.create({"inputs": [{"name": "a", "type": "strnig"}], "outputs": [{"name": "b"}]}, id="r")
    for program_id, runs in (("p", 2), ("q", 1), ("r", 1)):
        for _ in range(runs):
            await hand.call("execute_program", {"program_id": program_id, "inputs": {"text": "x"}})
    after = result(await hand.call("get_stats"))["adoption"]

    nothing = {"dynamic": 0, "legacy": 0, "fallback": 0, "dynamic_share": None}
    assert before == {"programs": nothing, "jobs": nothing}
    assert after == {
        "programs": {"dynamic": 1, "legacy": 1, "fallback": 1, "dynamic_share": pytest.approx(1 / 3)},
        "jobs": {"dynamic": 2, "legacy": 1, "fallback": 1, "dynamic_share": 0.5},
    }


# Cancel


async def test_a_queued_job_that_is_cancelled_is_answered_so_and_acked(hand: LeftHand) -> None:
    """Each time it is delivered, on its own reply queue."""
    await hand.create(SENTIMENT, id="p")
    said = result(await hand.call("cancel", {"message_id": "m"}))
    outcomes = [await hand.handle({"id": 9, "args": RUN}, message_id="m") for _ in range(2)]

    assert said == {"message_id": "m", "status": "cancelled"}
    for outcome in outcomes:
        assert (outcome.code, outcome.settlement) == ("cancelled", Ack())
        assert reply_of(outcome)["id"] == 9
        assert problem(reply_of(outcome))["code"] == "cancelled"
    assert result(await hand.call("get_result", {"message_id": "m"}))["status"] == "cancelled"


async def test_a_running_job_is_stopped_at_once_by_a_cancel_in_its_own_process(slow: LeftHand, stub: LMStub) -> None:
    """Its call is counted; cancelling again says so."""
    running = asyncio.create_task(
        slow.handle({"args": {"signature": SENTIMENT, "inputs": {"text": "x"}}}, message_id="m")
    )
    await stub.called.wait()
    said = [result(await slow.call("cancel", {"message_id": "m"}))["status"] for _ in range(2)]
    outcome = await running
    again = await slow.handle({"args": {"signature": SENTIMENT, "inputs": {"text": "x"}}}, message_id="m")

    assert said == ["cancelled", "already_cancelled"]
    assert [one.settlement for one in (outcome, again)] == [Ack(), Ack()]
    assert [problem(reply_of(one))["attempts"] for one in (outcome, again)] == [1, 1]
    assert stub.calls == 1


async def test_a_job_that_is_done_is_too_late_to_cancel_and_keeps_its_reply(hand: LeftHand) -> None:
    """``get_result`` has it."""
    await hand.create(SENTIMENT, id="p")
    first = await hand.call("execute_program", RUN, message_id="m")
    said = result(await hand.call("cancel", {"message_id": "m"}))

    assert said == {"message_id": "m", "status": "too_late"}
    assert result(await hand.call("get_result", {"message_id": "m"}))["reply"] == first


async def test_a_cancel_that_is_delivered_twice_has_one_reply(hand: LeftHand) -> None:
    """It does not take its own mark for another's."""
    replies = [await hand.call("cancel", {"message_id": "m"}, message_id="c") for _ in range(2)]

    assert replies[0] == unmarked_body(replies[1])
    assert result(replies[0])["status"] == "cancelled"


@pytest.mark.parametrize("args", [{}, {"message_id": ""}, {"message_id": 7}])
async def test_a_job_is_cancelled_by_message_id(hand: LeftHand, args: dict[str, Any]) -> None:
    """And by nothing else."""
    assert problem(await hand.call("cancel", args))["field"] == "message_id"


async def test_an_id_that_no_message_can_have_harms_nothing(hand: LeftHand) -> None:
    """PostgreSQL cannot store a NUL."""
    assert result(await hand.call("cancel", {"message_id": "\x00"}))["status"] == "cancelled"


# All programs at once


@pytest.mark.parametrize("command", ["cleanup", "reset_state"])
async def test_programs_are_deleted_all_at_once_only_where_that_is_allowed(hand: LeftHand, command: str) -> None:
    """The refusal names the setting."""
    await hand.create(SENTIMENT, id="p")
    detail = problem(await hand.call(command))

    assert detail["code"] == "not_permitted"
    assert "DSPEX_ALLOW_RESET=true" in detail["message"]
    assert await hand.store.count_programs() == 1


async def test_cleanup_deletes_the_programs_and_says_how_many(tmp_path: Path) -> None:
    """A redelivery repeats it and deletes nothing that came later."""
    async with open_left_hand(tmp_path, make_settings(allow_reset="true")) as hand:
        await hand.create(SENTIMENT, id="p")
        await hand.create("a -> b", id="q")
        first = await hand.call("cleanup", message_id="m")
        await hand.create("a -> b", id="q")
        second = await hand.call("cleanup", message_id="m")

        assert result(first) == {"status": "cleaned", "programs_removed": 2}
        assert first == unmarked_body(second)
        assert await hand.store.count_programs() == 1


async def test_reset_state_begins_to_count_anew(tmp_path: Path) -> None:
    """Programs of all workers, counts of the one that answers."""
    async with open_left_hand(tmp_path, make_settings(allow_reset="true")) as hand:
        await hand.create(SENTIMENT, id="p")
        await hand.call("nonsense")
        reset = result(await hand.call("reset_state"))
        stats = result(await hand.call("get_stats"))

    assert reset == {"status": "reset", "programs_cleared": 1, "commands_reset": 2, "errors_reset": 1}
    assert (stats["programs_count"], stats["command_count"], stats["error_count"]) == (0, 1, 0)


# DSPex's bridge


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("cleanup_session", "not_applicable"),
        ("get_session_data", "not_stored_locally"),
        ("update_session_data", "acknowledged"),
    ],
)
@pytest.mark.parametrize("session_id", ["s1", None])
async def test_sessions_are_answered_though_there_are_none(
    hand: LeftHand, command: str, status: str, session_id: str | None
) -> None:
    """With the id as it was sent, and a sentence."""
    said = result(await hand.call(command, {"session_id": session_id, "data": {"a": 1}}))

    assert list(said) == ["status", "session_id", "message"]
    assert (said["status"], said["session_id"]) == (status, session_id)


async def test_no_message_stops_a_worker(hand: LeftHand) -> None:
    """The refusal says what does."""
    detail = problem(await hand.call("shutdown"))

    assert detail["code"] == "not_permitted"
    assert "SIGTERM" in detail["message"]


async def test_a_configured_alias_is_confirmed_and_nothing_changes(tmp_path: Path) -> None:
    """DSPex configures before it does anything else."""
    aliases = json.dumps({"fast": {"model": "gemini/gemini-2.5-flash", "temperature": 0.5}})
    async with open_left_hand(tmp_path, make_settings(lms=aliases)) as hand:
        fast = result(await hand.call("configure_lm", {"model": "fast", "api_key": SECRET, "temperature": 1}))
        default = result(await hand.call("configure_lm", {"model": "default"}))
        stats = result(await hand.call("get_stats"))

    assert fast == {"status": "configured", "model": "fast", "provider": "gemini", "temperature": 0.5}
    assert default == {"status": "configured", "model": "default", "provider": None, "temperature": None}
    assert stats["lms"] == {"default": "offline", "fast": "gemini/gemini-2.5-flash"}


@pytest.mark.parametrize("model", [KNOWN_MODEL, None, 7, ["default"]])
async def test_any_other_lm_is_the_operators_to_configure(hand: LeftHand, model: object) -> None:
    """The refusal names the aliases."""
    detail = problem(await hand.call("configure_lm", {"model": model, "api_key": SECRET}))

    assert detail["code"] == "not_permitted"
    assert "this worker knows default" in detail["message"]


def content(folder: Path) -> bytes:
    """Return all that the files of a folder hold."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


KEYED = json.dumps({"command": "configure_lm", "args": {"model": "m", "api_key": SECRET}}).encode()


@pytest.mark.parametrize(
    ("body", "properties", "code"),
    [
        pytest.param(KEYED, {}, "not_permitted", id="refused"),
        pytest.param(KEYED, {"reply_to": "dspex.execute"}, "reply_to_not_allowed", id="wrong reply_to"),
        pytest.param(KEYED, {"content_type": "text/plain"}, "invalid_request", id="wrong properties"),
        pytest.param(KEYED, {"is_oversized": True}, "invalid_request", id="oversized"),
        pytest.param(KEYED, {"is_oversized": True, "reply_to": "dspex.x"}, "reply_to_not_allowed", id="both"),
        pytest.param(KEYED[:-1], {}, "invalid_json", id="cut off"),
        pytest.param(KEYED.replace(b"_lm", b"\\u005flm"), {}, "not_permitted", id="escaped"),
        pytest.param(KEYED[:-1] + b', "x": 1}', {}, "invalid_request", id="a key too many"),
        pytest.param(KEYED, {"headers": {"x-dspex-deadline": 1}}, "expired", id="expired"),
    ],
)
async def test_a_key_is_neither_stored_nor_logged_nor_dead_lettered(
    hand: LeftHand,
    body: bytes,
    properties: dict[str, Any],
    code: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A refused configure_lm is acked: a copy of it would keep the key."""
    outcome = await hand.handle(body, lane="control", **properties)
    shown = "".join(capsys.readouterr()).encode() + content(tmp_path) + (outcome.reply.body if outcome.reply else b"")

    assert (outcome.code, outcome.settlement) == (code, Ack())
    assert SECRET.encode() not in shown


async def test_a_bug_in_configure_lm_is_no_reason_to_keep_the_key(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere a bug is a dead letter."""

    async def broken(job: object) -> dict[str, Any]:
        raise KeyError

    for command in ("configure_lm", "ping"):
        monkeypatch.setitem(hand.questions.answers, command, broken)
    sealed = await hand.handle(KEYED, lane="control")
    other = await hand.handle({"command": "ping"}, lane="control")

    assert (sealed.code, sealed.settlement) == ("internal", Ack())
    assert isinstance(other.settlement, DeadLetter)


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        ({"command": "fly", "args": {"text": "configure_lm"}}, {}),
        ({"args": {"program_id": "configure_lm", "inputs": 7}}, {"trail": Trail(waits=1)}),
    ],
)
async def test_a_job_that_only_speaks_of_it_is_kept_like_any_other(
    hand: LeftHand, body: dict[str, Any], properties: dict[str, Any]
) -> None:
    """A refusal that nobody hears becomes a dead letter."""
    assert isinstance((await hand.handle(body, **properties)).settlement, AckIfReplied)


async def test_gemini_programs_are_programs_with_dspex_s_words_besides(tmp_path: Path) -> None:
    """Create and execute with type, model name, and no raw response; the alias decides about the LM."""
    aliases = json.dumps({"fast": {"model": "offline"}})
    async with open_left_hand(tmp_path, make_settings(lms=aliases)) as hand:
        created = result(await hand.call("create_gemini_program", {"id": "p", "signature": SENTIMENT, "lm": "fast"}))
        plain = await hand.create(SENTIMENT, id="p", lm="fast")
        ran = result(await hand.call("execute_gemini_program", RUN))
        same = result(await hand.call("execute_program", RUN))

    words = {"type": "gemini", "model_name": "offline", "raw_response": None}
    assert {name: created.pop(name) for name in words} == words
    assert {name: ran.pop(name) for name in words} == words
    assert created == plain
    assert set(ran) == set(same)
    assert ran["outputs"] == same["outputs"]


async def test_a_gemini_job_waits_for_its_program_like_any_other(hand: LeftHand) -> None:
    """One hop on the ladder."""
    outcome = await hand.handle({"command": "execute_gemini_program", "args": RUN})

    assert outcome.code == "delayed"


# Describe


async def test_a_program_is_described_by_schemas_that_its_values_satisfy(hand: LeftHand) -> None:
    """What it takes and gives, with the constraints."""
    await hand.create(SENTIMENT, id="p")
    said = result(await hand.call("describe", {"program_id": "p"}))
    ran = result(await hand.call("execute_program", RUN))

    assert list(said) == ["program_id", "inputs", "outputs", "signature_fingerprint", "program_version", "is_dynamic"]
    validate(RUN["inputs"], said["inputs"])
    validate(ran["outputs"], said["outputs"])
    for wrong in ({"sentiment": "glad", "confidence": 1.0}, {"sentiment": "positive", "confidence": 7.3}, {}):
        assert not Draft202012Validator(said["outputs"]).is_valid(wrong)


async def test_question_and_answer_takes_any_inputs(hand: LeftHand) -> None:
    """They are not checked, but there must be some."""
    await hand.create(None, id="p")
    said = result(await hand.call("describe", {"program_id": "p"}))
    ran = result(await hand.call("execute_program", RUN))

    validate({"text": "x"}, said["inputs"])
    validate(ran["outputs"], said["outputs"])
    assert not Draft202012Validator(said["inputs"]).is_valid({})


async def test_an_unknown_program_cannot_be_described_by_schemas(hand: LeftHand) -> None:
    """A fixed sentence, and another one without an id."""
    replies = [await hand.call("describe", args) for args in ({"program_id": "p"}, {})]

    assert [reply["error"] for reply in replies] == ["Program not found: p", "Program ID is required"]


async def test_a_change_waits_for_a_store_that_is_down(hand: LeftHand, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no bug of the job."""
    real, calls = hand.store.set_flag, []

    async def down_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise StoreUnavailableError("down")
        return await real(*args, **kwargs)

    monkeypatch.setattr(hand.store, "set_flag", down_once)

    assert (await set_flag(hand, "off"))["value"] == "off"
