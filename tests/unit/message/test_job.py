"""From a parsed body to a job: shapes, defaults, ids, hashes, deadlines, reply queues."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.support.left_hand import make_delivery, make_job
from worker.errors import InvalidRequestError, ReplyToNotAllowedError
from worker.message import Lane, check_properties, check_reply_to, decode, request_id


@pytest.mark.parametrize(("lane", "command"), [("create", "create_program"), ("execute", "execute_program")])
def test_the_queue_names_the_command_that_is_left_out(lane: Lane, command: str) -> None:
    """Only the control queue has no default."""
    assert make_job({"args": {}}, lane=lane).command == command


def test_any_command_is_accepted_on_any_queue() -> None:
    """The queue only chooses the lane."""
    assert make_job({"command": "ping"}, lane="create").command == "ping"


@pytest.mark.parametrize("document", [[], "text", 1, None, True])
def test_a_body_that_is_no_object_is_refused(document: object) -> None:
    """JSON alone is not a request."""
    with pytest.raises(InvalidRequestError):
        decode(document, make_delivery())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        pytest.param({"argz": {}}, "argz", id="unknown key"),
        pytest.param({"id": True}, "id", id="id is a boolean"),
        pytest.param({"id": [1]}, "id", id="id is a list"),
        pytest.param({"id": {}}, "id", id="id is an object"),
        pytest.param({"command": 7}, "command", id="command is a number"),
        pytest.param({"args": "x"}, "args", id="args is a text"),
        pytest.param({"args": [1, 2]}, "args", id="args is a list of no pairs"),
        pytest.param({"args": [["a", 1, 2]]}, "args", id="args is a list of triples"),
        pytest.param({"args": [[1, 2]]}, "args", id="a pair whose key is no text"),
    ],
)
def test_a_wrong_top_level_is_refused_by_name(document: dict[str, Any], field: str) -> None:
    """Only the top level is strict, and it names what is wrong."""
    with pytest.raises(InvalidRequestError) as refused:
        decode(document, make_delivery())

    assert refused.value.field == field


def test_the_control_queue_needs_a_command() -> None:
    """There is no default to guess."""
    with pytest.raises(InvalidRequestError, match="command"):
        make_job({"args": {}}, lane="control")


@pytest.mark.parametrize("request_id_", ["seven", 7, 7.5, "", None])
def test_any_json_string_or_number_is_an_id(request_id_: object) -> None:
    """It is copied to the reply as it came."""
    assert make_job({"id": request_id_}).id == request_id_


@pytest.mark.parametrize("document", [None, [], {"id": True}, {"id": []}, {}])
def test_an_id_that_cannot_be_repeated_reads_as_null(document: object) -> None:
    """Replies to unreadable requests carry null."""
    assert request_id(document) is None


def test_a_timestamp_is_allowed_and_ignored() -> None:
    """Two jobs that differ in it only are the same job."""
    first, second = make_job({"timestamp": 1, "args": {}}), make_job({"timestamp": "later", "args": {}})

    assert first.body_hash == second.body_hash


@pytest.mark.parametrize("args", [None, [], {}])
def test_empty_args_in_every_spelling_are_an_empty_object(args: object) -> None:
    """An empty keyword list is encoded as ``[]``."""
    assert make_job({"args": args}).args == {}


def test_an_encoded_keyword_list_is_an_object() -> None:
    """Elixir's JSON encoders write one as a list of pairs."""
    assert make_job({"args": [["program_id", "p"], ["inputs", {"a": 1}]]}).args == {
        "program_id": "p",
        "inputs": {"a": 1},
    }


def test_the_body_hash_is_the_documented_one() -> None:
    """SHA-256 of canonical JSON of command and args: any client can compute it."""
    job = make_job({"id": 3, "args": {"b": "ö", "a": [1, 2.0]}})
    text = '{"args":{"a":[1,2.0],"b":"ö"},"command":"execute_program"}'

    assert job.body_hash == hashlib.sha256(text.encode()).hexdigest()


def test_the_body_hash_leaves_out_id_and_signature_metadata() -> None:
    """The seed sends ``created_at`` in it, so it says nothing about sameness."""
    bare = make_job({"id": 1, "args": {"signature": {"inputs": []}}})
    dated = make_job({"id": 2, "args": {"signature": {"inputs": [], "metadata": {"created_at": "now"}}}})

    assert dated.body_hash == bare.body_hash


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({"signature": {"inputs": [{"metadata": 1}]}}, id="in a field"),
        pytest.param({"metadata": 1, "signature": {"inputs": [{}]}}, id="beside the signature"),
        pytest.param({"signature": {"inputs": [{}]}, "inputs": {"metadata": 1}}, id="in the inputs"),
        pytest.param({"signature": {"inputs": [{}]}, "inputs": {"id": 1}}, id="an id in the inputs"),
    ],
)
def test_the_body_hash_leaves_out_nothing_deeper(args: dict[str, Any]) -> None:
    """An input called ``metadata`` is content."""
    bare = make_job({"args": {"signature": {"inputs": [{}]}}})

    assert make_job({"args": args}).body_hash != bare.body_hash


def test_the_body_hash_tells_commands_apart() -> None:
    """The same arguments to another command are another job."""
    assert make_job({"command": "a"}).body_hash != make_job({"command": "b"}).body_hash


def test_the_message_id_is_the_key() -> None:
    """It is the sender's own idempotency key."""
    assert make_job(message_id="m-1").key == "m-1"


def test_a_key_is_derived_from_correlation_id_reply_queue_and_content() -> None:
    """The same three are the same job; one that differs is another."""
    same: dict[str, Any] = {"message_id": None, "correlation_id": "c", "reply_to": "q"}
    keys = [
        make_job({"args": {"a": 1}}, **same).key,
        make_job({"args": {"a": 1}}, **{**same, "correlation_id": "d"}).key,
        make_job({"args": {"a": 1}}, **{**same, "reply_to": "r"}).key,
        make_job({"args": {"a": 2}}, **same).key,
    ]

    assert len(set(keys)) == 4
    assert make_job({"id": 9, "args": {"a": 1}}, **same).key == keys[0]


def test_a_job_without_any_id_has_no_key() -> None:
    """It is plain at-least-once."""
    assert make_job(message_id=None, correlation_id=None).key is None


def test_a_deadline_is_unix_milliseconds() -> None:
    """The header of our own clients."""
    assert make_job(headers={"x-dspex-deadline": 1_800_000_000_000}).deadline_ms == 1_800_000_000_000


@pytest.mark.parametrize("value", ["1800000000000", 1.5, True, b"1", [1], {"a": 1}])
def test_a_deadline_of_another_type_is_refused(value: object) -> None:
    """A job must not run because its deadline was not understood."""
    with pytest.raises(InvalidRequestError, match="x-dspex-deadline"):
        make_job(headers={"x-dspex-deadline": value})


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": None},
        {"content_type": "application/json"},
        {"content_type": "Application/JSON; charset=utf-8"},
        {"content_encoding": "utf-8"},
        {"content_encoding": "UTF-8"},
    ],
)
def test_json_in_utf_8_is_what_is_accepted(properties: dict[str, Any]) -> None:
    """Absent means the same."""
    check_properties(make_delivery(**properties))


@pytest.mark.parametrize(
    "properties",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/x-erlang-binary"},
        {"content_encoding": "gzip"},
        {"message_id": "a\x00b"},
        {"message_id": "a\nb"},
        {"correlation_id": "a\x7f"},
        {"unreadable": ("correlation_id",)},
    ],
)
def test_properties_that_cannot_be_honoured_are_refused(properties: dict[str, Any]) -> None:
    """Each of them would be misread, or break a log or a header."""
    with pytest.raises(InvalidRequestError):
        check_properties(make_delivery(**properties))


@pytest.mark.parametrize(
    "reply_to", [None, "replies", "amq.rabbitmq.reply-to.g1h2", "amq.gen-x", "dspex.reply.a", "dspexother", "Dspex.x"]
)
def test_ordinary_reply_queues_are_allowed(reply_to: str | None) -> None:
    """Any name by default, and the namespace's own reply queues."""
    check_reply_to(reply_to, namespace="dspex", pattern="")


@pytest.mark.parametrize(
    "reply_to", ["dspex.execute", "dspex.execute.dead", "dspex.delay.1000", "dspex.reply", "dspex.replyx", "dspex."]
)
def test_no_reply_goes_to_a_queue_of_the_namespace(reply_to: str) -> None:
    """A reply in a work queue would be a job."""
    with pytest.raises(ReplyToNotAllowedError):
        check_reply_to(reply_to, namespace="dspex", pattern="")


@pytest.mark.parametrize("reply_to", ["dspex.reply.ann", "dspex.reply.ann.", "dspex.reply.ann.1", "orders", None])
def test_a_tenant_has_reply_queues_of_its_own(reply_to: str | None) -> None:
    """The one of its name, and those that begin with it and a dot; others are the pattern's to allow."""
    check_reply_to(reply_to, namespace="dspex", pattern="", tenant="ann")


@pytest.mark.parametrize("reply_to", ["dspex.reply.bob", "dspex.reply.anna", "dspex.reply.", "dspex.reply..ann"])
@pytest.mark.parametrize("tenant", ["ann", ""])
def test_no_reply_goes_to_another_tenants_queue(reply_to: str, tenant: str) -> None:
    """Nobody's neither, and the operator's pattern opens none of them."""
    with pytest.raises(ReplyToNotAllowedError):
        check_reply_to(reply_to, namespace="dspex", pattern=".*", tenant=tenant)


@pytest.mark.parametrize(("reply_to", "is_allowed"), [("good-1", True), ("bad", False), ("good-1x", False)])
def test_the_operators_pattern_must_match_in_full(reply_to: str, is_allowed: bool) -> None:
    """It is a pattern for the whole name, not for a part of it."""
    if is_allowed:
        check_reply_to(reply_to, namespace="dspex", pattern=r"good-\d")
    else:
        with pytest.raises(ReplyToNotAllowedError):
            check_reply_to(reply_to, namespace="dspex", pattern=r"good-\d")


def test_a_refused_reply_queue_is_not_repeated_in_the_error() -> None:
    """Nothing is learnt about other tenants' queues."""
    with pytest.raises(ReplyToNotAllowedError) as refused:
        check_reply_to("dspex.execute", namespace="dspex", pattern="")

    assert "execute" not in json.dumps(str(refused.value))
