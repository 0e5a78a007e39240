"""Values in both directions: JSON from senders, text from language models."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from worker.errors import InvalidInputsError, OutputInvalidError, Problem
from worker.signatures import check_inputs, check_outputs, parse, read_outputs


def one_input(type_: Any, **more: Any) -> Any:
    return parse({"inputs": [{"name": "x", "type": type_, **more}], "outputs": [{"name": "y"}]})


def one_output(type_: Any, **more: Any) -> Any:
    return parse({"inputs": [{"name": "x"}], "outputs": [{"name": "y", "type": type_, **more}]})


def exact(value: object) -> str:
    """Show a value so that 1, 1.0 and true differ."""
    return json.dumps(value)


ACCEPTED: list[tuple[Any, Any, Any]] = [
    ("string", "", ""),
    ("string", "null", "null"),
    ("integer", 1, 1),
    ("integer", 1.0, 1),
    ("integer", 10**30, 10**30),
    ("float", 1, 1.0),
    ("float", 0.5, 0.5),
    ("boolean", False, False),
    ("any", None, None),
    ("any", {"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
    ("string?", None, None),
    ("list<float>", [1, 2.5], [1.0, 2.5]),
    ("list<string?>", ["a", None], ["a", None]),
    ("dict<string, float>", {"a": 1}, {"a": 1.0}),
    ("dict<integer, any>", {"-12": None}, {"-12": None}),
    ("integer | string", "1", "1"),
    ("float | integer", 1, 1),
    ("integer | float", 1.0, 1.0),
    ("float | string", 1, 1.0),
    ("list<float> | list<integer>", [1], [1]),
    ({"enum": ["1", 1, True]}, 1, 1),
    ({"enum": ["1", 1, True]}, "1", "1"),
    ({"enum": ["1", 1, True]}, True, True),
    ({"type": "float", "enum": [1, 2]}, 1, 1.0),
    ({"type": "list<integer>", "enum": [[1, 2], [3]]}, [1, 2], [1, 2]),
    ({"type": "string", "length": 2}, "äö", "äö"),
    ({"dict": [{"type": "string", "enum": ["a"]}, "any"]}, {"a": 1}, {"a": 1}),
    ({"dict": [{"type": "integer", "minimum": 2}, "any"]}, {"2": 1}, {"2": 1}),
]


@pytest.mark.parametrize(("type_", "value", "expected"), ACCEPTED)
def test_an_input_that_fits_is_taken_as_its_type_has_it(type_: Any, value: Any, expected: Any) -> None:
    """Only integer to float and back is changed; the first member without a change wins."""
    taken, warnings = check_inputs(one_input(type_), {"x": value})

    assert warnings == []
    assert exact({"x": expected}) == exact(taken)


REFUSED: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    ("string", 5, [("", "must be a string")]),
    ("string", None, [("", "missing")]),
    ("string", "\ud800", [("", "must not contain lone surrogates")]),
    ("integer", "1", [("", "must be an integer")]),
    ("integer", True, [("", "must be an integer")]),
    ("integer", 1.5, [("", "must be an integer")]),
    ("integer", float("inf"), [("", "must be an integer")]),
    ("float", "1.0", [("", "must be a finite number")]),
    ("float", True, [("", "must be a finite number")]),
    ("float", float("nan"), [("", "must be a finite number")]),
    ("float", 10**400, [("", "must be a finite number")]),
    ("boolean", "true", [("", "must be true or false")]),
    ("boolean", 1, [("", "must be true or false")]),
    ("any", float("nan"), [("", "must be a JSON value")]),
    ("any", [{"a": float("inf")}], [("", "must be a JSON value")]),
    ("any", object(), [("", "must be a JSON value")]),
    ("list", "a", [("", "must be a list")]),
    ("list<string>", ["a", 1, None], [("/1", "must be a string"), ("/2", "must not be null")]),
    ("map", [], [("", "must be an object")]),
    ("dict<integer, any>", {"01": 1}, [("/01", "key must be an integer")]),
    ("dict<integer, any>", {"1.0": 1}, [("/1.0", "key must be an integer")]),
    ("dict<string, integer>", {"a/b~": "x"}, [("/a~1b~0", "must be an integer")]),
    ("dict<string, any>", {5: 1}, [("/5", "must have a string as key")]),
    ("integer | boolean", "x", [("", "must be integer or boolean")]),
    ("probability", 1.5, [("", "must be at most 1")]),
    ("probability", -1, [("", "must be at least 0")]),
    ({"type": "float", "gt": 0}, 0, [("", "must be greater than 0")]),
    ({"type": "float", "lt": 0.5}, 0.5, [("", "must be less than 0.5")]),
    ({"type": "string", "min": 2, "max": 3}, "a", [("", "must have 2 to 3 characters, has 1")]),
    ({"type": "list", "dimensions": 2}, [1], [("", "must have exactly 2 items, has 1")]),
    ({"type": "string", "enum": ["a", "b"]}, "A", [("", 'must be one of: "a", "b"')]),
    ({"type": "integer", "enum": [1]}, True, [("", "must be one of: 1")]),
    ({"enum": ["a"]}, object(), [("", 'must be one of: "a"')]),
    ({"enum": [{"a": 1}]}, {"a": True}, [("", 'must be one of: {"a": 1}')]),
    ({"enum": ["a"]}, None, [("", "missing")]),
    (
        {"dict": [{"type": "string", "enum": ["a"]}, "any"]},
        {"b": 1},
        [("/b", 'key must be one of: "a"')],
    ),
]


@pytest.mark.parametrize(("type_", "value", "expected"), REFUSED)
def test_an_input_that_does_not_fit_is_refused_with_its_place(
    type_: Any, value: Any, expected: list[tuple[str, str]]
) -> None:
    """Nothing is parsed or turned into another type."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(one_input(type_), {"x": value})

    actual = [(problem.path, problem.problem) for problem in caught.value.problems]
    assert [(f"/inputs/x{at}", phrase) for at, phrase in expected] == actual


def test_all_problems_are_reported_at_once_and_a_missing_field_names_the_error() -> None:
    """DSPex matches on the sentence."""
    signature = parse("a: integer, b, c: list<integer> -> d")
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(signature, {"a": "x", "c": [1, "y"]})

    error = caught.value
    assert str(error) == "Missing required field: b"
    assert error.field == "b"
    assert [problem.path for problem in error.problems] == ["/inputs/a", "/inputs/b", "/inputs/c/1"]


def test_a_wrong_value_is_named_with_its_field() -> None:
    """The other fixed sentence."""
    with pytest.raises(InvalidInputsError, match=r"^Field c: must be an integer \(at /1\)$"):
        check_inputs(parse("c: list<integer> -> d"), {"c": [1, "y"]})


def test_a_million_wrong_items_are_not_a_million_problems() -> None:
    """The reply stays small."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(parse("c: list<integer> -> d"), {"c": ["x"] * 100_000})

    assert len(caught.value.problems) == 100


def test_unknown_inputs_are_dropped_with_a_warning() -> None:
    """As DSPex's validator does."""
    taken, warnings = check_inputs(parse("a -> b"), {"a": "1", "z": 2})

    assert taken == {"a": "1"}
    assert warnings == ["Input `z` is not in the signature and was dropped"]


def test_an_input_name_is_found_in_any_normal_form() -> None:
    """The sender spelled it the same way in the definition."""
    taken, warnings = check_inputs(parse("gro\u0308ße -> b"), {"gro\u0308ße": "1"})

    assert (taken, warnings) == ({"gr\u00f6ße": "1"}, [])


def test_inputs_that_are_no_object_are_refused() -> None:
    """A list of values has no names."""
    with pytest.raises(InvalidInputsError, match="inputs must be an object"):
        check_inputs(parse("a -> b"), ["a"])  # type: ignore[arg-type]


def test_absent_optional_inputs_become_their_default_or_stay_out() -> None:
    """Null for an optional field that is not nullable counts as absent."""
    signature = parse(
        {
            "inputs": [
                {"name": "a", "optional": True},
                {"name": "b", "default": [1], "type": "list"},
                {"name": "c", "required": False},
                {"name": "d", "type": "string?", "default": "x"},
            ],
            "outputs": [{"name": "y"}],
        }
    )
    taken, _ = check_inputs(signature, {"c": None, "d": None})
    again, _ = check_inputs(signature, {})

    assert taken == {"b": [1], "d": None}
    assert taken["b"] is not again["b"]
    assert again == {"b": [1], "d": "x"}


def test_a_misspelt_input_is_named_where_its_field_is_missing() -> None:
    """Behind the sentence that DSPex matches on; the field and its problem stay as they are."""
    with pytest.raises(InvalidInputsError) as caught:
        check_inputs(parse("subject, body -> label"), {"bdy": "x", "sender": "y", "subject": "z"})

    error = caught.value
    assert (error.field, error.problems) == ("body", (Problem("/inputs/body", "missing"),))
    assert str(error) == "Missing required field: body; was it meant by `bdy`?"


def test_a_dropped_input_is_told_with_the_optional_field_that_it_may_have_been_meant_for() -> None:
    """Nothing is missing, so the job runs, and the warning says what went wrong."""
    _, warnings = check_inputs(
        parse({"inputs": [{"name": "body"}, {"name": "language", "optional": True}], "outputs": [{"name": "label"}]}),
        {"body": "x", "languag": "de", "z": 1},
    )

    assert warnings == [
        "Input `languag` is not in the signature and was dropped; did you mean `language`?",
        "Input `z` is not in the signature and was dropped",
    ]


def test_a_nullable_required_input_may_be_null_and_not_absent() -> None:
    """Null and absent are two things."""
    signature = one_input("string?")
    with pytest.raises(InvalidInputsError, match="Missing required field: x"):
        check_inputs(signature, {})

    assert check_inputs(signature, {"x": None}) == ({"x": None}, [])


READ: list[tuple[Any, str, Any]] = [
    ("string", " text ", " text "),
    ("string", "null", "null"),
    ("string", "42", "42"),
    ("string?", "None", None),
    ("string?", " ", None),
    ("string?", "nothing", "nothing"),
    ("integer", " 42 ", 42),
    ("integer", "42.0", 42),
    ("integer", str(10**30), 10**30),
    ("integer?", "null", None),
    ("float", "1", 1.0),
    ("float", "1e3", 1000.0),
    ("boolean", "TRUE", True),
    ("boolean", " False\n", False),
    ("any", "null", None),
    ("any", "5", 5),
    ("any", "hello", "hello"),
    ("any", '"hello"', "hello"),
    ("list<string>", '["a", "b"]', ["a", "b"]),
    ("list<boolean>", "[true]", [True]),
    ("map", '{"a": 1}', {"a": 1}),
    ("integer | string", "42", 42),
    ("integer | string", "about 42", "about 42"),
    ("string | integer", "42", 42),
    ("string | boolean", "True", True),
    ("string | list<integer>", '["a"]', '["a"]'),
    ("string | integer", '"a"', '"a"'),
    ("integer | float", "1.0", 1.0),
    ("integer | list<integer>", "[1]", [1]),
    ({"type": "string", "enum": ["yes", "no"]}, "yes", "yes"),
    ({"type": "string", "enum": ["yes", "no"]}, ' "Yes" ', "yes"),
    ({"type": "string", "enum": ["Yes", "yes"]}, "yes", "yes"),
    ({"type": "integer", "enum": [1, 2]}, "2", 2),
    ({"type": "boolean", "enum": [True]}, "TRUE", True),
    ({"type": "string?", "enum": ["a"]}, "null", None),
    ({"enum": ["1", 1]}, "1", "1"),
    ({"enum": ["a", 1]}, "1", 1),
    ({"anyOf": ["integer", {"type": "string", "enum": ["low"]}]}, "LOW", "low"),
]


@pytest.mark.parametrize(("type_", "text", "expected"), READ)
def test_text_is_read_as_its_type(type_: Any, text: str, expected: Any) -> None:
    """The reading rules of the wire contract."""
    actual = read_outputs(one_output(type_), {"y": text})

    assert exact({"y": expected}) == exact(actual)


UNREADABLE: list[tuple[Any, str]] = [
    ("integer", "forty-two"),
    ("integer", "1,000"),
    ("integer", '"42"'),
    ("integer", "true"),
    ("integer", ""),
    ("integer", "42 items"),
    ("float", "50%"),
    ("float", "NaN"),
    ("float", "Infinity"),
    ("float", "1e999"),
    ("boolean", "yes"),
    ("boolean", "1"),
    ("boolean", '"true"'),
    ("list<string>", "a, b"),
    ("list<string>", '["a", 1]'),
    ("list<boolean>", "[True]"),
    ("map", '{"a": 1, "a": 2}'),
    ("map", '{"a": NaN}'),
    ("list", '["\\ud800"]'),
    ("list", "[" * 5000),
    ("map", '{"a": ' * 100 + "1" + "}" * 100),
    ("list", "[" * 100 + "]" * 100),
    ("integer | list<integer>", "x"),
    ("probability", "7.3"),
    ("string", "\ud800"),
    ({"type": "string", "enum": ["yes", "no"]}, "maybe"),
    ({"type": "integer", "enum": [1, 2]}, "3"),
    ("dict<integer, any>", json.dumps({"9" * 5000: 1})),
    ("dict<string, integer>", json.dumps({str(number): "x" for number in range(200)})),
    ({"type": "string", "enum": ["Yes", "yEs"]}, "yes"),
    ({"type": "string", "max": 2}, "abc"),
    ({"anyOf": ["integer", {"type": "string", "enum": ["low"]}]}, "high"),
    ({"anyOf": ["integer", {"type": "string", "max": 2}, {"type": "string", "min": 9}]}, "high"),
]


@pytest.mark.parametrize(("type_", "text"), UNREADABLE)
def test_text_that_breaks_its_type_is_never_a_value(type_: Any, text: str) -> None:
    """A wrong value is worse than asking again."""
    with pytest.raises(OutputInvalidError) as caught:
        read_outputs(one_output(type_), {"y": text})

    places = {"/".join(problem.path.split("/")[:3]) for problem in caught.value.problems}
    assert re.match("Program execution failed: Field y: (key )?must ", str(caught.value))
    assert len(str(caught.value)) < 200
    assert places == {"/outputs/y"}


@pytest.mark.parametrize("value", [None, 5, True, ["a"]])
def test_a_json_answer_of_another_type_is_never_turned_into_text(value: object) -> None:
    """DSPy returns 'None' for null."""
    with pytest.raises(OutputInvalidError):
        read_outputs(one_output("string"), {"y": value})


def test_outputs_always_have_all_declared_names() -> None:
    """An absent optional output is its default, else null."""
    signature = parse(
        {
            "inputs": [{"name": "x"}],
            "outputs": [
                {"name": "a"},
                {"name": "b", "optional": True},
                {"name": "c", "type": "integer", "default": 3},
                {"name": "d", "type": "integer", "optional": True},
            ],
        }
    )
    actual = read_outputs(signature, {"a": "text", "d": "null", "extra": "ignored"})

    assert actual == {"a": "text", "b": None, "c": 3, "d": None}


def test_missing_outputs_are_named() -> None:
    """With the same words as missing inputs."""
    with pytest.raises(OutputInvalidError) as caught:
        read_outputs(parse("x -> a, b: integer"), {"b": "?"})

    paths = [problem.path for problem in caught.value.problems]
    assert caught.value.reason == "Missing required field: a"
    assert paths == ["/outputs/a", "/outputs/b"]


def test_outputs_of_a_demo_are_json_and_not_text() -> None:
    """Senders write values, so text is not parsed."""
    signature = parse("x -> a: integer, b: string")
    with pytest.raises(InvalidInputsError) as caught:
        check_outputs(signature, {"a": "1", "b": "x"})

    assert check_outputs(signature, {"a": 1.0, "b": "x"}) == ({"a": 1, "b": "x"}, [])
    assert [problem.path for problem in caught.value.problems] == ["/outputs/a"]
