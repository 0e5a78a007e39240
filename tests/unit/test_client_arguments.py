"""What the client refuses before it sends anything, and what it says."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest

from worker.client import ArgumentError, Client, ClientError
from worker.client.arguments import check_rerun, encode, job_args


class SomeSignature:
    """What a user of DSPy would try."""


def refused(caught: pytest.ExceptionInfo[ArgumentError]) -> tuple[str, str]:
    return caught.value.field, str(caught.value)


@pytest.fixture
def client() -> Client:
    """A client that was never opened: what is refused here needs no broker."""
    return Client("amqp://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("signature", "what"),
    [
        (SomeSignature, "the class SomeSignature"),
        (SomeSignature(), "of type SomeSignature"),
        (["text -> label"], "of type list"),
        (None, "None"),
    ],
)
async def test_a_signature_of_another_kind_is_refused_with_what_is_accepted(client, signature, what):
    """Creating, predicting, and sending for later."""
    accepted = "signature must be a dict with `inputs` and `outputs`, or a string such as 'text -> label: string'"
    told = []
    for call in (client.create_program(signature), client.predict(signature, {}), client.enqueue(signature, {})):
        with pytest.raises(ArgumentError) as caught:
            await call
        told.append(refused(caught))

    assert told == [("signature", f"{accepted}, not {what}")] * 3


async def test_a_misspelt_argument_is_a_type_error(client):
    """It used to be sent, and came back as one warning among others."""
    with pytest.raises(TypeError, match="idd"):
        await client.create_program("text -> label", idd="p")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"inputs": ["x"]}, ("inputs", "inputs must be a mapping of name → value, not of type list")),
        ({"inputs": {1: "x"}}, ("inputs", "inputs has the key 1: names are strings")),
        ({"options": "fast"}, ("options", "options must be a mapping of name → value, not of type str")),
        ({"program_id": {"inputs": []}}, None),
    ],
)
async def test_arguments_of_execute_are_checked(client, given, expected):
    """Each in one sentence that names the argument."""
    args: dict[str, Any] = {"program_id": "p", "inputs": {}, **given}
    with pytest.raises(ArgumentError) as caught:
        await client.execute(args.pop("program_id"), args.pop("inputs"), **args)
    meant = "program_id must be a string, not of type dict; to run a signature, use predict()"

    assert (expected or ("program_id", meant)) == refused(caught)


@pytest.mark.parametrize(
    ("config", "demos", "expected"),
    [
        ([1], None, "config must be a mapping of name → value, not of type list"),
        (None, "ab", "demos must be a list of mappings, not of type str"),
        (None, [{"text": "x"}, "y"], "demos must be a mapping of name → value, not of type str"),
    ],
)
async def test_arguments_of_create_program_are_checked(client, config, demos, expected):
    """Nested ones too."""
    with pytest.raises(ArgumentError) as caught:
        await client.create_program("a -> b", config=config, demos=demos)

    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("value", "place", "what"),
    [
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "/inputs/x", "it is of type datetime"),
        ({"deep": [1, decimal.Decimal(1)]}, "/inputs/x/deep/1", "it is of type Decimal"),
        (b"bytes", "/inputs/x", "it is of type bytes"),
        (float("nan"), "/inputs/x", "it is nan"),
        ([float("-inf")], "/inputs/x/0", "it is -inf"),
        ("half \ud800", "/inputs/x", "it holds half of a surrogate pair"),
        ({(1, 2): 3}, "/inputs/x", "it has a key of type tuple"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named_by_place_and_type(value, place, what):
    """And never quoted: the sentence may go into a log."""
    with pytest.raises(ArgumentError) as caught:
        encode("execute_program", {"inputs": {"ok": 1, "x": value}})

    assert refused(caught) == ("x", f"{place} cannot be sent as JSON: {what}")


def test_a_value_that_holds_itself_is_refused():
    """Instead of a recursion without an end."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ArgumentError, match="nested deeper than 100 levels"):
        encode("execute_program", {"inputs": {"x": value}})


def test_an_argument_error_is_caught_as_each_of_its_kinds():
    """By code that was written for Python's own errors, too."""
    assert {ClientError, TypeError, ValueError} <= set(ArgumentError.__mro__)


@pytest.mark.parametrize(
    ("rerun_of", "message_id", "expected"),
    [
        (-1, "m", "rerun_of must be the generation of the failed reply, a whole number of at least 0, not -1"),
        (True, "m", "rerun_of must be the generation of the failed reply, a whole number of at least 0, not True"),
        (0, None, "rerun_of needs the message_id of the job that failed"),
    ],
)
def test_another_run_needs_the_job_and_the_run_that_failed(rerun_of, message_id, expected):
    """Else a fresh job would run, or none."""
    with pytest.raises(ArgumentError) as caught:
        check_rerun(rerun_of, message_id)

    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("program", "name"), [("sentiment", "program_id"), ("a->b", "signature"), ({"inputs": []}, "signature")]
)
def test_a_program_is_an_id_or_a_signature(program, name):
    """A text with an arrow is a signature."""
    assert job_args(program, {}, None)[name] == program


@pytest.mark.parametrize("no_worker", ["wait", ("wait", -1), ("wait", 1.5), ("fail", 1), None])
def test_a_wrong_no_worker_is_refused_when_the_client_is_made(no_worker):
    """Not at the first call."""
    with pytest.raises(ArgumentError, match=r'no_worker must be "fail" or \("wait", milliseconds\)'):
        Client("amqp://127.0.0.1:1/", no_worker=no_worker)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, None])
def test_a_wrong_bound_of_rows_is_refused_at_once(client, count):
    """Before the first row is taken."""
    with pytest.raises(ArgumentError, match="max_in_flight must be a whole number of at least 1"):
        client.execute_many("p", [], max_in_flight=count)


@pytest.mark.parametrize("rows", [42, "text", None])
def test_rows_of_no_accepted_shape_are_refused_at_once(client, rows):
    """A text is an iterable too, and surely a mistake."""
    with pytest.raises(ArgumentError, match="rows must be a mapping of key → inputs or an iterable of inputs"):
        client.execute_many("p", rows)
