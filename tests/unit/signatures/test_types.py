"""What a type is called, what Python sees of it, and what DSPy is given."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic.fields import FieldInfo

from worker.signatures import describe_type, parse, python_type
from worker.signatures.classes import field_name, make_signature_class
from worker.signatures.nodes import STRING, item_type, pair_types


def type_of(spelling: Any, **more: Any) -> Any:
    return parse({"inputs": [{"name": "x"}], "outputs": [{"name": "y", "type": spelling, **more}]}).outputs[0].type


def desc_of(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["desc"])


def prefix_of(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["prefix"])


PHRASES: list[tuple[Any, str]] = [
    ("string", "string"),
    ({"type": "string", "enum": ["positive", "negative"]}, 'string, one of: "positive", "negative"'),
    ({"type": "string", "min": 1, "max": 5}, "string of 1 to 5 characters"),
    ({"type": "string", "max": 5}, "string of at most 5 characters"),
    ({"type": "string?", "min": 1}, "string of at least 1 characters or null"),
    ("probability", "number from 0 to 1"),
    ("integer?", "integer or null"),
    ({"type": "integer", "min": 1}, "integer of at least 1"),
    ({"type": "integer", "max": 9}, "integer of at most 9"),
    ({"type": "float", "gt": 0, "le": 1}, "number greater than 0 and at most 1"),
    ({"type": "float", "ge": 0.5, "lt": 1}, "number of at least 0.5 and less than 1"),
    ("boolean", "boolean"),
    ("any", "any JSON value"),
    ({"enum": [1, "a", None]}, 'any JSON value, one of: 1, "a" or null'),
    ("list<string>", "list of strings"),
    ({"type": "list<string>", "min": 1, "max": 5}, "list of 1 to 5 strings"),
    ({"type": "embedding", "dimensions": 3}, "list of exactly 3 numbers"),
    ("list", "list of JSON values of any type"),
    ("list<probability>", "list; each item: number from 0 to 1"),
    ({"type": "list<list<string>>", "max": 2}, "list of at most 2 items; each item: list of strings"),
    ("list<probability>?", "null or list; each item: number from 0 to 1"),
    ("dict<string, integer>", "object with string keys; each value: integer"),
    (
        {"dict": [{"type": "string", "enum": ["a"]}, "any"]},
        'object with (string, one of: "a") keys; each value: any JSON value',
    ),
    ("integer | string", "integer or string"),
    ("integer | list<integer?>", "integer or (list; each item: integer or null)"),
    ({"type": "integer | string", "enum": [1, "a"]}, 'integer or string, one of: 1, "a"'),
]


@pytest.mark.parametrize(("spelling", "expected"), PHRASES)
def test_a_type_is_said_in_one_phrase(spelling: Any, expected: str) -> None:
    """For prompts and refusals, in wire words."""
    assert expected == describe_type(type_of(spelling))


@pytest.mark.parametrize("children", [item_type, pair_types])
def test_a_scalar_has_no_children(children: Any) -> None:
    """A mix-up of kinds fails at once, and not as None further on."""
    with pytest.raises(TypeError):
        children(STRING)


def test_many_choices_are_cut() -> None:
    """A refusal stays readable."""
    phrase = describe_type(type_of("integer", constraints={"enum": list(range(1000))}))

    assert phrase.endswith("48, 49, …")


ANNOTATIONS: list[tuple[Any, Any]] = [
    ("string", str),
    ("integer", int),
    ("float", float),
    ("boolean", bool),
    ("any", Any),
    ("probability", float),
    ("embedding", list[float]),
    ("list", list[Any]),
    ("map", dict[str, Any]),
    ("dict<integer, list<string>>", dict[int, list[str]]),
    ("string?", str | None),
    ("integer | string", int | str),
    ("integer | string?", int | str | None),
    ({"type": "string", "enum": ["a", "b"]}, Literal["a", "b"]),
    ({"type": "string?", "enum": ["a"]}, Literal["a"] | None),
    ({"type": "float", "enum": [1, 2]}, float),
    ({"enum": [1, {"a": 1}]}, Any),
]


@pytest.mark.parametrize(("spelling", "expected"), ANNOTATIONS)
def test_a_type_is_a_real_python_type(spelling: Any, expected: Any) -> None:
    """DSPy is never given a type as text."""
    assert expected == python_type(type_of(spelling))


DEFINITION: dict[str, Any] = {
    "inputs": [
        {"name": "class", "description": "the class"},
        {"name": "model_fields", "type": "any", "optional": True},
    ],
    "outputs": [{"name": "signature", "type": "list<integer>"}, {"name": "f0", "type": "integer", "optional": True}],
}


def test_the_class_has_internal_names_and_real_types() -> None:
    """No wire name can collide with one that DSPy, pydantic or Python claims."""
    made = make_signature_class(parse(DEFINITION))

    annotations = {name: info.annotation for name, info in made.model_fields.items()}
    assert list(made.input_fields) == [field_name(0), field_name(1)]
    assert {"f0": str, "f1": Any, "f2": list[int], "f3": int | None} == annotations


def test_the_class_speaks_of_wire_names_only() -> None:
    """Left empty, DSPy writes its internal names into the prompt."""
    made = make_signature_class(parse("text, mood -> label"))

    said = [made.instructions, *map(desc_of, made.model_fields.values()), *map(prefix_of, made.model_fields.values())]
    assert made.instructions == "Given the fields `text`, `mood`, produce the fields `label`."
    assert not any(re.search(r"f\d+", one) for one in said)


def test_making_a_class_builds_no_validators() -> None:
    """They were most of the cost of a new signature, and nobody makes instances of it."""
    made = make_signature_class(
        parse({**DEFINITION, "outputs": [{"name": "y", "type": {"properties": {"a": "string"}}}]})
    )

    assert made.__pydantic_complete__ is False
    assert str(made(f0="x", f1=1, f2={"a": "b"})).startswith("f0='x'")


def test_descriptions_reach_the_class() -> None:
    """They are what the author wanted the model to read."""
    made = make_signature_class(parse({**DEFINITION, "description": "Classify."}))

    assert made.instructions == "Classify."
    assert desc_of(made.model_fields["f0"]) == "the class"


def test_outputs_of_our_own_stand_before_the_declared_ones() -> None:
    """A chain of thought comes first, under a name that no wire name can be."""
    made = make_signature_class(parse("a -> b"), extra_outputs={"reasoning": "Think."})

    assert list(made.output_fields) == ["reasoning", "f1"]


def test_the_package_does_not_load_dspy() -> None:
    """Only worker.signatures.classes does."""
    code = "import sys, worker.signatures; sys.exit('dspy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0
