"""Messages that were delivered often: who runs alone, who is ended unseen, and which deliveries are of one job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from worker.amqp.suspects import alone, hop, is_convicted, is_same_job, is_suspect, sentence
from worker.message import Ack, DeadLetter, Delivery, Trail
from worker.settings import Settings, load


def make_delivery(**changes: Any) -> Delivery:
    return Delivery(**({"lane": "execute", "body": b"{}", "reply_to": "replies", "message_id": "m1"} | changes))


def make_settings(**changes: str) -> Settings:
    return load({"DSPEX_NAMESPACE": "shop", **{f"DSPEX_{name.upper()}": text for name, text in changes.items()}})


@pytest.mark.parametrize(
    ("ids", "counts"),
    [
        ({"message_id": "m1"}, (5, 25)),
        ({"message_id": None, "correlation_id": "c1"}, (5, 25)),
        ({"message_id": None}, (2, 5)),
    ],
)
def test_a_message_is_suspect_first_and_ended_when_it_ran_alone_often_enough(
    ids: Mapping[str, Any], counts: tuple[int, int]
) -> None:
    """One without an id has no row that counts its crashes, so it is suspect earlier."""
    deliveries = [make_delivery(delivery_count=count, **ids) for count in range(30)]
    suspects = [one.delivery_count for one in deliveries if is_suspect(one)]
    convicted = [one.delivery_count for one in deliveries if is_convicted(one, max_stops=10)]

    assert counts == (suspects[0], convicted[0])


def test_a_job_that_may_be_stopped_more_often_is_ended_later() -> None:
    """Each stop of its worker may cost two deliveries, and its row ends it first."""
    deliveries = [make_delivery(delivery_count=count) for count in range(100)]
    convicted = [one.delivery_count for one in deliveries if is_convicted(one, max_stops=40)]
    nameless = [make_delivery(delivery_count=count, message_id=None) for count in range(10)]

    ended_nameless = [one.delivery_count for one in nameless if is_convicted(one, max_stops=40)]

    assert (convicted[0], ended_nameless[0]) == (85, 5)


def test_a_hop_keeps_the_count_that_the_broker_begins_anew() -> None:
    """Else two killers that make room for each other would never be ended."""
    waited = hop(make_delivery(delivery_count=14, trail=Trail(waits=1, deliveries=2)), delay_ms=1_000)
    copy = make_delivery(delivery_count=9, trail=Trail.from_headers(waited.trail.to_headers()))

    assert (waited.delay_ms, waited.trail.waits, waited.trail.deliveries) == (1_000, 2, 16)
    assert waited.trail.first_delivered_ms is not None
    assert is_convicted(copy, max_stops=10)


def test_who_has_run_alone_leaves_the_count_behind() -> None:
    """A retry of a suspect that killed nobody is a job like any other."""
    delivery = alone(make_delivery(trail=Trail(attempts=1, deliveries=6)))

    assert (delivery.is_alone, delivery.trail) == (True, Trail(attempts=1))


def test_one_that_cannot_be_copied_is_no_suspect() -> None:
    """It is refused before anybody looks at its body, and no hop could carry it."""
    assert not is_suspect(make_delivery(delivery_count=9, is_oversized=True))


def test_a_sentence_is_an_error_reply_and_a_dead_letter() -> None:
    """The body is not parsed, so the reply has no id."""
    outcome = sentence(make_delivery(delivery_count=8, correlation_id="c1", body=b'{"id": 1'), settings=make_settings())

    assert isinstance(outcome.settlement, DeadLetter)
    assert outcome.settlement.letter.code == "worker_lost"
    assert outcome.reply is not None
    reply = json.loads(outcome.reply.body)
    assert (outcome.reply.reply_to, outcome.reply.correlation_id) == ("replies", "c1")

    assert (reply["id"], reply["success"], reply["error_detail"]["code"]) == (None, False, "worker_lost")


@pytest.mark.parametrize(
    ("settings", "delivery"),
    [
        ({}, {"reply_to": None}),
        ({}, {"reply_to": "shop.execute"}),
        ({"tenancy": "user_id"}, {"reply_to": "shop.reply.bob", "user_id": "ann"}),
    ],
)
def test_a_sentence_goes_nowhere_where_no_reply_may_go(settings: dict[str, str], delivery: dict[str, Any]) -> None:
    """The dead letter is kept all the same."""
    outcome = sentence(make_delivery(delivery_count=8, **delivery), settings=make_settings(**settings))

    assert (outcome.reply, type(outcome.settlement)) == (None, DeadLetter)


def test_a_body_that_may_hold_a_key_leaves_no_dead_letter() -> None:
    """DSPex sends an LM's key with configure_lm."""
    body = b'{"command": "configure_lm", "args": {"api_key": "sk"}}'
    outcome = sentence(make_delivery(delivery_count=8, body=body), settings=make_settings())

    assert isinstance(outcome.settlement, Ack)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({}, {"body": b"[]"}, True),
        ({}, {"message_id": "m2"}, False),
        ({"user_id": "ann"}, {"user_id": "bob"}, False),
        ({"message_id": None}, {"message_id": None}, False),
        ({"message_id": None, "correlation_id": "c"}, {"message_id": None, "correlation_id": "c"}, True),
        ({"message_id": None, "correlation_id": "c"}, {"correlation_id": "c"}, False),
        (
            {"message_id": None, "correlation_id": "c"},
            {"message_id": None, "correlation_id": "c", "body": b"[]"},
            False,
        ),
        (
            {"message_id": None, "correlation_id": "c"},
            {"message_id": None, "correlation_id": "c", "reply_to": "others"},
            False,
        ),
    ],
)
def test_deliveries_of_one_job_have_one_id_or_one_address_and_body(
    one: dict[str, Any], other: dict[str, Any], is_same: bool
) -> None:
    """As its row is found: by the message id, else by correlation id, reply queue and content."""
    assert is_same == is_same_job(make_delivery(**one), make_delivery(**other))
