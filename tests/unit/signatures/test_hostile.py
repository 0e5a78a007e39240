"""Definitions that are made to hurt: refused with a code, after work that is bounded by our limits, not by their size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from worker.errors import DefinitionError
from worker.signatures import parse

MAX_CALLS = 250_000
"""About 60 ms of Python; the largest accepted definitions need fewer."""


def one_output(type_: Any, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "q"}], "outputs": [{"name": "x", "type": type_, **more}]}


def wide_object(levels: int, width: int) -> Any:
    spelling: Any = "string"
    for _ in range(levels):
        spelling = {"type": "object", "properties": {f"a{index}": spelling for index in range(width)}}
    return spelling


def nested(wrap: Any, levels: int, inner: Any = "string") -> Any:
    for _ in range(levels):
        inner = wrap(inner)
    return inner


def many_fields(count: int, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": f"a{index}", **more} for index in range(count)], "outputs": [{"name": "y"}]}


HOSTILE: dict[str, tuple[Any, str]] = {
    "10,000 fields": (many_fields(10_000), "invalid_signature"),
    "a million fields": ({"inputs": [{}] * 1_000_000, "outputs": [{"name": "y"}]}, "invalid_signature"),
    "10,000 fields as text": (", ".join(f"a{index}" for index in range(10_000)) + " -> y", "invalid_signature"),
    "2,000 short fields as text": (",".join("a" * 2_000) + " -> y", "invalid_signature"),
    "a long text": ("a -> b: " + "list<" * 1_000_000, "invalid_signature"),
    "deep lists": (one_output(nested(lambda one: ["list", one], 60)), "invalid_signature"),
    "endless lists": (one_output(nested(lambda one: [one], 10_000)), "invalid_signature"),
    "deep objects": (one_output(nested(lambda one: {"properties": {"a": one}}, 30)), "invalid_signature"),
    "deep unions": (one_output(nested(lambda one: {"anyOf": [one, ["list", one]]}, 12)), "invalid_signature"),
    "a tree of objects": (one_output(wide_object(3, 30)), "invalid_signature"),
    "an object of 10,000 members": (one_output(wide_object(1, 10_000)), "invalid_signature"),
    "a wide tree of unions": (one_output([[["string"] * 50] * 50] * 50), "invalid_signature"),
    "brackets as text": ("a -> b: " + "(" * 10_000, "invalid_signature"),
    "a huge enum": (
        one_output("string", constraints={"enum": [str(one) for one in range(1_000_000)]}),
        "invalid_signature",
    ),
    "many enums": (many_fields(90, constraints={"enum": [str(one) for one in range(200)]}), "invalid_constraint"),
    "an exponential pattern": (
        one_output("string", constraints={"pattern": r"(\w+\w+)+{50}{50}$"}),
        "invalid_constraint",
    ),
    "a huge pattern": (one_output("string", constraints={"pattern": "a" * 1_000_000}), "invalid_constraint"),
    "nested repeats": (
        one_output("string", constraints={"pattern": "((((a{99}){99}){99}){99}){99}"}),
        "invalid_constraint",
    ),
    "a thousand brackets": (one_output("string", constraints={"pattern": "[" * 1_000}), "invalid_constraint"),
    "a thousand groups": (one_output("string", constraints={"pattern": "(" * 500 + ")" * 500}), "invalid_constraint"),
    "many costly patterns": (
        {
            "inputs": [{"name": f"a{n}", "constraints": {"pattern": rf"\w{{30}}{n}"}} for n in range(90)],
            "outputs": [{"name": "y"}],
        },
        "invalid_constraint",
    ),
    "many choices of a wide union": (
        one_output([{"type": "string", "length": length} for length in range(100)], enum=["a" * 99] * 9_000),
        "invalid_signature",
    ),
    "a long default of wide unions": (
        one_output({"list": [{"type": "string", "length": n} for n in range(100)]}, default=["a" * 99] * 9_000),
        "invalid_signature",
    ),
    "choices checked again and again": (
        one_output(
            nested(lambda one: {"anyOf": [one, "null"], "min": 1}, 30, {"type": "string", "enum": ["ab"] * 9_000})
        ),
        "invalid_signature",
    ),
    "a deep default": (one_output("any", default=nested(lambda one: [one], 10_000)), "invalid_signature"),
    "a huge default": (one_output("any", default=[0] * 1_000_000), "invalid_signature"),
    "a huge number": (one_output("integer", constraints={"minimum": 10**3_000_000}), "invalid_signature"),
    "a huge float bound": (one_output("float", constraints={"minimum": 10**4_000}), "invalid_constraint"),
    "many unknown constraints": (
        one_output("strng", constraints={f"minimun{index}": 1 for index in range(20_000)}),
        "unknown_type",
    ),
    "a name of a million characters": (
        many_fields(1, description="") | {"inputs": [{"name": "a" * 10**6}]},
        "invalid_field_name",
    ),
    "an unknown type of a million characters": (one_output("x" * 10**6), "invalid_signature"),
    "a pattern over a long default": (
        one_output("string", constraints={"pattern": r"(\w{1,30}\s){1,2}\w+!$"}, default="ab cd " * 310_000),
        "invalid_signature",
    ),
    "patterns over defaults": (
        many_fields(99, constraints={"pattern": r"(\w{1,3}\s){1,6}\w+!?$"}, default="ab cd " * 1_300),
        "invalid_signature",
    ),
    "a step that is very small": (
        one_output({"type": "array", "items": {"type": "float", "multiple_of": 1e-300}}, default=[1.5] * 49_000),
        "invalid_constraint",
    ),
    "a long default with a step": (
        one_output({"type": "array", "items": {"type": "float", "multiple_of": 0.1}}, default=[1.5] * 30_000),
        "invalid_signature",
    ),
    "20,000 unknown constraints": (
        one_output("string", constraints={f"x{index}": 1 for index in range(20_000)}),
        "invalid_signature",
    ),
    "20,000 unknown keys": (one_output("string", **{f"x{index}": 1 for index in range(20_000)}), "invalid_signature"),
    "unknown types in all fields": (many_fields(99, type="strng"), "unknown_type"),
}


class CallCounter:
    """Counts the Python functions that are entered; a clock would measure the machine."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        self.calls += event == "call"


@pytest.fixture
def counter() -> Iterator[CallCounter]:
    counter = CallCounter()
    before = sys.getprofile()
    sys.setprofile(counter)
    yield counter
    sys.setprofile(before)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_definition_is_refused_after_little_work(what: str, counter: CallCounter) -> None:
    """Ten milliseconds of typing must not cost a worker minutes."""
    definition, code = HOSTILE[what]
    before = counter.calls
    with pytest.raises(DefinitionError) as caught:
        parse(definition)

    assert counter.calls - before < MAX_CALLS
    assert len(str(caught.value)) < 1_000
    assert code == caught.value.code


LARGEST: dict[str, Any] = {
    "fields": many_fields(99, type="list<string | integer>?", constraints={"max": 5}),
    "choices": one_output("string", constraints={"enum": [str(one) for one in range(10_000)]}),
    "types": one_output(wide_object(2, 40)),
    "text": "a -> b: " + " | ".join(["string"] * 1_500),
    "patterns": many_fields(99, constraints={"pattern": "^[a-z]{1,50}$"}),
    "unknown": many_fields(99, constraints={f"x{index}": 1 for index in range(100)}),
    "choices with a step": one_output(
        "float", constraints={"enum": [n / 10 for n in range(10_000)], "multiple_of": 0.1}
    ),
    "lists as choices": one_output("list", constraints={"enum": [[n] for n in range(9_000)]}),
}


@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_definitions_are_read_after_little_work(what: str, counter: CallCounter) -> None:
    """The limits are where a definition is still read in good time."""
    before = counter.calls
    signature = parse(LARGEST[what])

    assert counter.calls - before < 2 * MAX_CALLS
    assert len(signature.warnings) <= 101
