"""The handler is total: whatever is delivered, there is an outcome that settles it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.left_hand import SENTIMENT, LeftHand, make_delivery, make_settings, open_left_hand, reply_of
from tests.support.replies import unmarked
from worker import errors, handler
from worker.errors import InternalError, ProgramExistsError, WorkerError
from worker.message import (
    LANES,
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Delivery,
    GiveBack,
    Job,
    Outcome,
    Reject,
    Reply,
    Settlement,
    Trail,
)
from worker.standing import Standing
from worker.store import StoredOutcome, StoreUnavailableError

MIB = 1024 * 1024


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[LeftHand]:
    async with open_left_hand(tmp_path) as opened:
        yield opened


def _error_classes(root: type[WorkerError] = WorkerError) -> list[type[WorkerError]]:
    own = [kind for kind in root.__subclasses__() if kind.__module__ == errors.__name__]
    return [*own, *(kind for child in own for kind in _error_classes(child))]


@pytest.mark.parametrize("kind", _error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_settlement(kind: type[WorkerError]) -> None:
    """A new branch of the tree cannot be forgotten."""
    assert isinstance(handler._settlement(make_delivery(), kind("why")), Settlement)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "invalid_json", id="empty"),
        pytest.param(b"\xff\xfe", "invalid_json", id="not UTF-8"),
        pytest.param('{"id": "größe"}'.encode("latin-1"), "invalid_json", id="Latin-1"),
        pytest.param(b'{"args": NaN}', "invalid_json", id="NaN"),
        pytest.param(b'{"id": 1, "id": 2}', "invalid_json", id="duplicate key"),
        pytest.param(b'{"id": "\\ud800"}', "invalid_json", id="lone surrogate"),
        pytest.param(b"[" * 200_000, "invalid_json", id="200,000 brackets"),
        pytest.param(b" " * 17 * MIB, "body_too_large", id="17 MiB"),
        pytest.param(b"[]", "invalid_request", id="a list"),
        pytest.param(b'{"what": 1}', "invalid_request", id="an unknown key"),
        pytest.param(b'{"command": "nonsense"}', "unknown_command", id="an unknown command"),
        pytest.param(b'{"command": "shutdown"}', "not_permitted", id="not permitted"),
    ],
)
async def test_a_bad_body_is_answered_with_its_code(hand: LeftHand, body: bytes, code: str) -> None:
    """Acked if the answer was taken, else dead-lettered."""
    outcome = await hand.handle(body)

    assert reply_of(outcome)["error_detail"]["code"] == outcome.code == code
    assert isinstance(outcome.settlement, AckIfReplied)
    assert outcome.settlement.letter.code == code


async def test_an_unknown_command_is_answered_with_the_fixed_sentence(hand: LeftHand) -> None:
    """DSPex matches on it."""
    assert (await hand.call("nonsense"))["error"] == "Unknown command: nonsense"


@pytest.mark.parametrize("request_id", [7, "seven", 1.5, None])
async def test_the_id_of_a_readable_request_is_repeated(hand: LeftHand, request_id: object) -> None:
    """In successes, in refusals of the command, and where only the properties are wrong."""
    bodies = [{"id": request_id, "command": "ping"}, {"id": request_id, "command": "nonsense"}]
    replies = [reply_of(await hand.handle(body, lane="control")) for body in bodies]
    replies.append(reply_of(await hand.handle(bodies[0], lane="control", content_type="text/plain")))

    assert [reply["id"] for reply in replies] == [request_id] * 3
    assert [reply["success"] for reply in replies] == [True, False, False]


async def test_an_unreadable_request_is_answered_with_a_null_id(hand: LeftHand) -> None:
    """There is nothing to repeat."""
    assert reply_of(await hand.handle(b'{"id": 7'))["id"] is None


@pytest.mark.parametrize(
    "properties",
    [{"content_type": "text/plain"}, {"content_encoding": "gzip"}, {"unreadable": ("x",)}, {"message_id": "a\x00"}],
)
async def test_properties_that_cannot_be_honoured_are_refused_before_the_job(
    hand: LeftHand, properties: dict[str, Any]
) -> None:
    """Nothing is created, run or stored."""
    outcome = await hand.handle({"args": {"id": "p", "signature": "a -> b"}}, lane="create", **properties)

    assert outcome.code == "invalid_request"
    assert await hand.store.count_programs() == 0


async def test_a_body_that_cannot_be_read_because_it_is_compressed_is_told_so(hand: LeftHand) -> None:
    """Not that its JSON is invalid."""
    outcome = await hand.handle(gzip.compress(b"{}"), content_encoding="gzip")

    assert "content_encoding" in reply_of(outcome)["error"]


@pytest.mark.parametrize("reply_to", ["dspex.execute", "dspex.execute.dead", "dspex.delay.1000"])
@pytest.mark.parametrize("body", [b'{"args": {}}', b"not json"])
async def test_nothing_is_ever_sent_to_a_queue_of_the_namespace(hand: LeftHand, reply_to: str, body: bytes) -> None:
    """No reply, a dead letter."""
    outcome = await hand.handle(body, reply_to=reply_to)

    assert (outcome.code, outcome.reply) == ("reply_to_not_allowed", None)
    assert isinstance(outcome.settlement, DeadLetter)


async def test_properties_too_large_to_copy_are_rejected_without_a_copy(hand: LeftHand) -> None:
    """The copy would close the publish connection."""
    outcome = await hand.handle({"command": "ping"}, is_oversized=True)

    assert (outcome.code, outcome.settlement) == ("invalid_request", Reject())
    assert outcome.reply is not None


async def test_properties_too_large_are_no_way_around_the_check_of_the_reply_queue(hand: LeftHand) -> None:
    """Neither a reply nor a copy."""
    outcome = await hand.handle({"command": "ping"}, is_oversized=True, reply_to="dspex.execute")

    assert (outcome.reply, outcome.settlement) == (None, Reject())


async def test_an_expired_job_is_answered_and_acked(hand: LeftHand) -> None:
    """It failed nobody."""
    outcome = await hand.handle(
        {"args": {"signature": SENTIMENT, "inputs": {"text": "x"}}},
        headers={"x-dspex-deadline": hand.clock.now_ms - 1},
    )

    assert (reply_of(outcome)["error_detail"]["code"], outcome.settlement) == ("expired", Ack())


async def test_a_conflict_is_answered(hand: LeftHand) -> None:
    """And runs nothing."""
    bodies = [{"args": {"signature": SENTIMENT, "inputs": {"text": text}}} for text in "ab"]
    outcomes = [await hand.handle(body, message_id="m") for body in bodies]

    assert [outcome.code for outcome in outcomes] == ["ok", "idempotency_conflict"]


async def test_a_repeated_refusal_has_the_same_message_id(hand: LeftHand) -> None:
    """Also where the job's key is derived; and another caller's has its own."""
    body = {"args": {"signature": SENTIMENT, "inputs": {}}}
    replies = [
        (await hand.handle(body, message_id=None, correlation_id=caller)).reply for caller in ("one", "one", "two")
    ]
    ids = [reply.message_id for reply in replies if reply]

    assert ids[0] == ids[1] != ids[2]


async def test_a_refusal_that_is_stored_is_repeated_byte_for_byte(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that is refused: the first reply is the stored one."""

    async def refuse(job: Job, standing: Standing) -> StoredOutcome:
        hand.clock.now_ms += 5
        raise ProgramExistsError("p")

    monkeypatch.setitem(hand.commands.once, "create_program", refuse)
    sent: dict[str, Any] = {"lane": "create", "message_id": None, "correlation_id": "c", "trail": Trail(generation=1)}
    first = await hand.handle({"args": {"id": "p"}}, **sent)
    hand.clock.now_ms += 1_000
    second = await hand.handle({"args": {"id": "p"}}, **sent)

    assert first.code == "program_exists"
    assert isinstance(first.settlement, AckIfReplied)
    assert unmarked(second.reply) == first.reply


async def test_a_bug_is_answered_without_details_and_dead_lettered(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a question, where no row keeps it."""

    async def broken(job: Job) -> dict[str, Any]:
        raise KeyError("secret detail")

    monkeypatch.setitem(hand.questions.answers, "ping", broken)
    outcome = await hand.handle({"command": "ping"}, lane="control")

    assert outcome.code == InternalError.code
    assert isinstance(outcome.settlement, DeadLetter)
    assert "secret" not in json.dumps(reply_of(outcome)) + outcome.settlement.letter.message


async def test_a_question_changes_nothing_in_the_inbox(hand: LeftHand) -> None:
    """Read-only commands never enter it."""
    for _ in range(2):
        await hand.call("ping", message_id="m")
    reply = await hand.call("execute_program", {"signature": SENTIMENT, "inputs": {"text": "x"}}, message_id="m")

    assert reply["success"]


async def test_jobs_in_flight_are_counted_also_when_they_are_cancelled(
    hand: LeftHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain reads the count."""
    entered = asyncio.Event()

    async def endless(job: Job, standing: Standing) -> StoredOutcome:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setitem(hand.commands.once, "execute_program", endless)
    running = asyncio.create_task(hand.handle({"args": {}}))
    await entered.wait()
    during = hand.commands.tally.in_flight
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (during, hand.commands.tally.in_flight) == (1, 0)


# Anything at all

NAMES = st.sampled_from(
    ["id", "command", "args", "timestamp", "program_id", "signature", "inputs", "outputs", "options", "name", "type"]
)
COMMANDS = st.sampled_from(
    [
        "create_program",
        "execute_program",
        "delete_program",
        "create_gemini_program",
        "execute_gemini_program",
        "ping",
        "get_result",
        "list_programs",
        "get_program_info",
        "describe",
        "cancel",
        "set_flag",
        "get_flags",
        "get_stats",
        "list_workers",
        "cleanup",
        "configure_lm",
        "update_session_data",
        "shutdown",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["string", "list<string>", "a -> b", "question -> answer", "p"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=5)
)
FIELDS = st.lists(
    st.fixed_dictionaries({}, optional={"name": VALUES, "type": VALUES, "constraints": VALUES}), max_size=3
)
SIGNATURES = st.fixed_dictionaries({}, optional={"inputs": FIELDS, "outputs": FIELDS, "description": VALUES}) | VALUES
ARGS = (
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.just("p") | VALUES,
            "program_id": st.just("p") | VALUES,
            "signature": SIGNATURES,
            "inputs": VALUES,
            "options": VALUES,
            "config": VALUES,
            "demos": VALUES,
            "message_id": VALUES,
            "name": st.sampled_from(["dynamic_signatures", "dynamic_signatures_rollout"]) | VALUES,
            "value": st.sampled_from(["on", "off", "force_off", 50]) | VALUES,
            "model": st.just("default") | VALUES,
            "program_type": VALUES,
        },
    )
    | VALUES
)
REQUESTS = (
    st.fixed_dictionaries({"command": COMMANDS, "args": ARGS}, optional={"id": VALUES, "timestamp": VALUES}) | VALUES
)
BODIES = st.binary(max_size=60) | REQUESTS.map(lambda value: json.dumps(value).encode())
IDS = st.none() | st.text(max_size=10)
HEADERS = st.dictionaries(
    st.sampled_from(["x-dspex-deadline", "x-dspex-attempts", "traceparent"]) | st.text(max_size=5),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
)
DELIVERIES = st.builds(
    Delivery,
    lane=st.sampled_from(LANES),
    body=BODIES,
    reply_to=st.none() | st.sampled_from(["q", "dspex.execute", "dspex.reply.x"]) | st.text(max_size=10),
    correlation_id=IDS,
    message_id=IDS,
    content_type=st.none() | st.just("application/json") | st.text(max_size=10),
    content_encoding=st.none() | st.text(max_size=5),
    headers=HEADERS,
    trail=st.builds(
        Trail,
        attempts=st.integers(0, 9),
        waits=st.integers(0, 3),
        generation=st.integers(0, 2),
        first_delivered_ms=st.none() | st.integers(0, 2**41),
    ),
    unreadable=st.just(()) | st.just(("correlation_id",)),
    is_oversized=st.booleans(),
)


@pytest.fixture(scope="module")
def total(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Handle a delivery on one hand that serves all examples; its loop is this thread's."""
    runner = asyncio.Runner()
    opening = open_left_hand(tmp_path_factory.mktemp("total"), make_settings())
    one = runner.run(opening.__aenter__())
    yield lambda delivery: runner.run(one.handler.handle(delivery))
    runner.run(opening.__aexit__(None, None, None))
    runner.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(delivery=DELIVERIES)
def test_whatever_is_delivered_ends_in_an_outcome(total: Callable[[Delivery], Outcome], delivery: Delivery) -> None:
    """Never an exception, always a settlement; a reply goes where it may go and is JSON; no input is a bug."""
    outcome = total(delivery)

    assert isinstance(outcome.settlement, Settlement)
    assert outcome.code != "internal"
    if isinstance(outcome.settlement, Delay):
        assert outcome.reply is None
    if isinstance(outcome.reply, Reply):
        assert outcome.reply.reply_to == delivery.reply_to
        assert outcome.reply.reply_to == "dspex.reply.x" or not outcome.reply.reply_to.startswith("dspex.")
        assert json.loads(outcome.reply.body)["success"] is (outcome.code == "ok")


@contextlib.asynccontextmanager
async def hand_without_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LeftHand]:
    async def down(*_: object, **__: object) -> None:
        raise StoreUnavailableError("down")

    async with open_left_hand(folder, make_settings(store_hold_seconds=0.01)) as hand:
        with monkeypatch.context() as patch:
            for name in ("claim", "get_flags", "get_state", "list_programs"):
                patch.setattr(hand.store, name, down)
            yield hand


@pytest.mark.parametrize("command", ["execute_program", "create_program", "get_result", "list_programs", "get_flags"])
@pytest.mark.parametrize("ids", [{}, {"message_id": None, "correlation_id": None}], ids=["with ids", "without"])
async def test_a_store_that_is_down_for_long_gives_the_job_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, ids: dict[str, Any]
) -> None:
    """Nothing is answered, and nothing runs: another worker's store may be up."""
    async with hand_without_store(tmp_path, monkeypatch) as hand:
        outcome = await hand.handle({"command": command, "args": {"message_id": "m"}}, lane="control", **ids)

    assert (outcome.reply, outcome.settlement, outcome.code) == (None, GiveBack(), "store_down")


async def test_what_is_handed_in_again_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``get_stats`` counts outcomes."""
    async with hand_without_store(tmp_path, monkeypatch) as hand:
        await hand.handle({"command": "create_program", "args": {"signature": "q -> a"}})

    assert hand.commands.tally.errors == 0
