"""Nested objects: members that are required, optional, nullable and defaulted, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from worker.errors import InvalidInputsError, OutputInvalidError
from worker.signatures import Signature, check_inputs, check_outputs, describe_type, parse, python_type, read_outputs

BOOK = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "description": "as printed"},
        "class": "integer?",
        "tags": {"type": "array", "items": "string", "default": []},
        "model_fields": {"type": "number", "optional": True},
        "größe": {"type": "object", "properties": {"user-id": "integer"}, "optional": True},
    },
}


def signature_of(spelling: Any) -> Signature:
    field = {"name": "x", "type": spelling}
    return parse({"inputs": [field], "outputs": [{**field, "name": "y"}]})


FULL = {"title": "Emma", "class": 1, "tags": ["a"], "model_fields": 1.0, "größe": {"user-id": 7}}
TAKEN: list[tuple[Any, Any, Any]] = [
    (BOOK, FULL, FULL),
    (
        BOOK,
        {"title": "Emma", "class": None},
        {"title": "Emma", "class": None, "tags": [], "model_fields": None, "größe": None},
    ),
    (
        BOOK,
        {"title": "Emma", "class": 2.0, "tags": None, "model_fields": 1, "gro\u0308ße": {"user-id": 7.0}},
        {"title": "Emma", "class": 2, "tags": [], "model_fields": 1.0, "größe": {"user-id": 7}},
    ),
    ({"anyOf": [{"properties": {"a": "float"}}, {"properties": {"a": "int"}}]}, {"a": 1}, {"a": 1}),
    ({"list": {"properties": {"a": "int"}}}, [{"a": 1}], [{"a": 1}]),
    (
        {"properties": {"a": "int", "b": {"type": "string", "optional": True}}, "enum": [{"a": 1}]},
        {"a": 1.0},
        {"a": 1, "b": None},
    ),
    (
        {"list": {"properties": {"a": "int", "b": {"type": "int", "default": 2}}}, "enum": [[{"a": 1}]]},
        [{"a": 1}],
        [{"a": 1, "b": 2}],
    ),
]


@pytest.mark.parametrize(("spelling", "value", "expected"), TAKEN)
def test_an_object_comes_out_with_all_its_members(spelling: Any, value: Any, expected: Any) -> None:
    """An absent member is its default, else null; in inputs, in demos and in answers alike."""
    signature = signature_of(spelling)
    inputs, _ = check_inputs(signature, {"x": value})
    outputs, _ = check_outputs(signature, {"y": value})
    answered = read_outputs(signature, {"y": json.dumps(value)})

    assert json.dumps(inputs["x"]) == json.dumps(outputs["y"]) == json.dumps(answered["y"])
    assert json.dumps(expected) == json.dumps(inputs["x"])


@pytest.mark.parametrize(("spelling", "value", "expected"), TAKEN)
def test_a_taken_object_is_taken_again_unchanged(spelling: Any, value: Any, expected: Any) -> None:
    """Stored and sent values must not change on their way."""
    taken, _ = check_inputs(signature_of(spelling), {"x": expected})

    assert json.dumps({"x": expected}) == json.dumps(taken)


REFUSED: list[tuple[Any, list[tuple[str, str]]]] = [
    ([], [("", "must be an object")]),
    ({}, [("/title", "missing"), ("/class", "missing")]),
    ({"title": None, "class": None}, [("/title", "must not be null")]),
    (
        {"title": "", "class": "1"},
        [("/title", "must have at least 1 characters, has 0"), ("/class", "must be an integer")],
    ),
    (FULL | {"größe": {"user-id": "7"}}, [("/größe/user-id", "must be an integer")]),
    (FULL | {"größe": {"user-id": 7, "a/b": 1}}, [("/größe/a~1b", "is no member of this object")]),
    (FULL | {"f0": 1}, [("/f0", "is no member of this object")]),
    (FULL | {5: 1}, [("/5", "is no member of this object")]),
    (FULL | {"tags": ["a", 1]}, [("/tags/1", "must be a string")]),
]


@pytest.mark.parametrize(("value", "expected"), REFUSED)
def test_every_fault_of_an_object_is_reported_with_its_place(value: Any, expected: list[tuple[str, str]]) -> None:
    """Unknown members are faults in both directions: what was declared is all that passes."""
    signature = signature_of(BOOK)
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature, {"x": value})
    with pytest.raises(OutputInvalidError) as answered:
        read_outputs(signature, {"y": value})

    actual = [(problem.path, problem.problem) for problem in caught.value.problems]
    assert [(f"/outputs/y{at}", phrase) for at, phrase in expected] == [
        (problem.path, problem.problem) for problem in answered.value.problems
    ]
    assert [(f"/inputs/x{at}", phrase) for at, phrase in expected] == actual


def test_a_million_unknown_members_are_not_a_million_problems() -> None:
    """The reply stays small."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature_of(BOOK), {"x": {str(index): index for index in range(100_000)}})

    assert len(caught.value.problems) <= 100


def test_a_fault_in_each_of_many_objects_stops_early() -> None:
    """The work is bounded by the faults, not by the list."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature_of({"list": {"properties": {"a": "integer", "b": "integer"}}}), {"x": [{}] * 10_000})

    assert len(caught.value.problems) == 100


def test_many_wrong_members_stop_early() -> None:
    """A list of faults within one member ends the object."""
    spelling = {"properties": {"a": "list<integer>", "b": "integer"}}
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature_of(spelling), {"x": {"a": ["x"] * 1000, "b": "x"}})

    assert len(caught.value.problems) == 100


def test_defaults_are_not_shared() -> None:
    """Two jobs must not write into one list."""
    signature = signature_of(BOOK)
    first, _ = check_inputs(signature, {"x": {"title": "a", "class": 1}})
    second, _ = check_inputs(signature, {"x": {"title": "a", "class": 1}})

    book: Any = first["x"]
    other: Any = second["x"]
    assert book["tags"] is not other["tags"]


def test_an_object_is_said_in_one_phrase() -> None:
    """For prompts, in wire words and with the members' descriptions."""
    assert describe_type(signature_of(BOOK).inputs[0].type) == (
        'object with exactly "title" (string of at least 1 characters; as printed), "class" (integer or null), '
        '"tags" (list of strings, may be left out), "model_fields" (number, may be left out), '
        '"größe" (object with exactly "user-id" (integer), may be left out)'
    )


def test_an_object_is_a_model_with_internal_names_and_wire_names_as_aliases() -> None:
    """Any wire name works, since pydantic never sees it as an attribute."""
    model = python_type(signature_of(BOOK).inputs[0].type)

    assert issubclass(model, BaseModel)
    assert list(model.model_fields) == ["f0", "f1", "f2", "f3", "f4"]
    assert model.model_validate(FULL).model_dump(by_alias=True) == FULL
    with pytest.raises(ValidationError):
        model.model_validate({**FULL, "more": 1})


def test_objects_nest_to_depth_eight() -> None:
    """One level more is refused in the table of bad definitions."""
    spelling: Any = "string"
    value: Any = "x"
    for _ in range(8):
        spelling, value = {"properties": {"a": spelling}}, {"a": value}
    signature = signature_of(spelling)

    assert check_inputs(signature, {"x": value}) == ({"x": value}, [])
    assert signature.fingerprint == parse(signature.to_json()).fingerprint
