"""Replies and the trail of copies."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.support.left_hand import make_delivery
from worker.errors import InvalidInputsError, LMRateLimitedError, Problem, ProgramExistsError, ProgramNotFoundError
from worker.message import (
    INTERNAL_HEADERS,
    MAX_REPLY_BYTES,
    Reply,
    Trail,
    encode_error,
    encode_success,
    error_detail,
    make_reply,
    mark_stored,
)


def test_a_success_has_the_documented_shape() -> None:
    """``timestamp`` is in seconds."""
    body = json.loads(encode_success(7, {"a": 1.0}, now_ms=1_763_856_000_120))

    assert body == {"id": 7, "success": True, "timestamp": 1_763_856_000.12, "result": {"a": 1.0}}


def test_an_error_has_the_documented_shape() -> None:
    """``error`` is a plain string; everything else is in ``error_detail``."""
    error = InvalidInputsError(
        "Missing required field: text", field="text", problems=[Problem("/inputs/text", "missing")]
    )
    body = json.loads(encode_error("x", error, now_ms=1_000))

    assert body == {
        "id": "x",
        "success": False,
        "timestamp": 1.0,
        "error": "Missing required field: text",
        "error_detail": {
            "code": "invalid_inputs",
            "message": "Missing required field: text",
            "field": "text",
            "recoverable": False,
            "retry_after": None,
            "attempts": 0,
            "problems": [{"path": "/inputs/text", "problem": "missing"}],
        },
    }


def test_retry_after_is_in_milliseconds() -> None:
    """As in DSPex's error struct."""
    detail = error_detail(LMRateLimitedError("slow down", retry_after_ms=2_500))

    assert (detail["retry_after"], detail["recoverable"]) == (2_500, True)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ProgramNotFoundError("p"), "Program not found: p"),
        (ProgramExistsError("p"), "Program with ID 'p' already exists"),
    ],
)
def test_the_sentences_that_dspex_matches_on_are_fixed(error: Exception, sentence: str) -> None:
    """They are part of the contract."""
    assert str(error) == sentence


def test_a_reply_repeats_the_callers_ids() -> None:
    """Destination, correlation id, trace context and counts."""
    delivery = make_delivery(
        reply_to="q", correlation_id="c", headers={"traceparent": "00-1-2-01"}, trail=Trail(generation=2)
    )
    reply = make_reply(delivery, b"{}", job_key="k", namespace="dspex", attempts=3)

    assert reply is not None
    assert (reply.reply_to, reply.correlation_id, reply.body) == ("q", "c", b"{}")
    assert reply.headers == {"traceparent": "00-1-2-01", "x-dspex-attempts": 3, "x-dspex-generation": 2}


def test_the_message_id_of_a_reply_is_the_documented_uuid() -> None:
    """uuid5 of namespace, tenant, job key and generation: any client can compute it."""
    reply = make_reply(make_delivery(), b"{}", job_key="k-ö", namespace="dspex", attempts=0)
    root = uuid.uuid5(uuid.NAMESPACE_URL, "dspex-worker")

    assert reply is not None
    assert reply.message_id == str(uuid.uuid5(root, '["dspex","","k-ö",0]'))


def test_a_replay_has_a_message_id_of_its_own() -> None:
    """A new generation is a new reply."""
    replies = [
        make_reply(make_delivery(trail=Trail(generation=n)), b"{}", job_key="k", namespace="dspex", attempts=0)
        for n in (0, 1)
    ]

    assert len({reply.message_id for reply in replies if reply}) == 2


def test_jobs_without_any_id_are_told_apart_by_their_body() -> None:
    """Two refusals must not look like one repeated."""
    replies = [
        make_reply(make_delivery(body), b"{}", job_key=None, namespace="dspex", attempts=0) for body in (b"1", b"2")
    ]

    assert len({reply.message_id for reply in replies if reply}) == 2


def test_nobody_who_asked_for_no_reply_gets_one() -> None:
    """The result is kept."""
    assert make_reply(make_delivery(reply_to=None), b"{}", job_key="k", namespace="dspex", attempts=0) is None


def test_the_trail_survives_a_copy() -> None:
    """What goes into the headers comes out of them."""
    trail = Trail(
        attempts=2, waits=3, first_delivered_ms=1_800_000_000_000, generation=1, original_routing_key="execute"
    )

    assert Trail.from_headers(trail.to_headers()) == trail
    assert set(trail.to_headers()) <= set(INTERNAL_HEADERS)


@pytest.mark.parametrize("value", ["2", -1, True, 1.5, None, [1]])
def test_an_internal_header_of_the_wrong_type_counts_as_absent(value: object) -> None:
    """A strange header must not end a job."""
    headers = dict.fromkeys(INTERNAL_HEADERS, value)
    trail = Trail.from_headers({**headers, "x-dspex-original-routing-key": 7, "x-dspex-tenant": 7})

    assert trail == Trail()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id":1}', b'{"id":1,"stored_ms":17}'),
        # Too long for a mark, and a row that an odd hand has written.
        (b"{%s}" % (b" " * (MAX_REPLY_BYTES - 2)), None),
        (b"text", None),
    ],
)
def test_a_stored_reply_says_since_when_it_is(body: bytes, expected: bytes | None) -> None:
    """In its headers always, in its body where there is room for it; the bytes before are as they were."""
    reply = Reply(body, "replies", "c", "m", {"x-dspex-attempts": 1})
    marked = mark_stored(reply, 17)

    assert marked.headers == {"x-dspex-attempts": 1, "x-dspex-stored": 17}
    assert marked.body == (expected or body)
