"""What definitions mean, and which ones are refused with which code."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from worker.errors import DefinitionError
from worker.signatures import LEGACY, Signature, is_legacy, parse
from worker.signatures.spelling import spell


def one_output(type_: Any = "string", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "q"}], "outputs": [{"name": "x", "type": type_, **more}]}


def canonical(type_: Any, **more: Any) -> Any:
    return spell(parse(one_output(type_, **more)).outputs[0].type)


def refusal(definition: Any) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        parse(definition)
    return caught.value


def nested_object(levels: int) -> Any:
    spelling: Any = "string"
    for _ in range(levels):
        spelling = {"type": "object", "properties": {"a": spelling}}
    return spelling


PROBABILITY = {"type": "float", "minimum": 0.0, "maximum": 1.0}

SPELLINGS: list[tuple[Any, Any]] = [
    ("string", "string"),
    ("str", "string"),
    ("text", "string"),
    (":string", "string"),
    ("  STRING ", "string"),
    ("atom", "string"),
    ("integer", "integer"),
    ("int", "integer"),
    ("float", "float"),
    ("number", "float"),
    ("double", "float"),
    ("boolean", "boolean"),
    ("bool", "boolean"),
    ("any", "any"),
    ("Any", "any"),
    ({}, "any"),
    ({"title": "T"}, "any"),
    ("map", "dict<string, any>"),
    ("object", "dict<string, any>"),
    ("dict", "dict<string, any>"),
    ("Dict", "dict<string, any>"),
    ("list", "list<any>"),
    ("array", "list<any>"),
    ("List", "list<any>"),
    ("embedding", "list<float>"),
    ("probability", PROBABILITY),
    (":confidence_score", PROBABILITY),
    ("reasoning_chain", "list<string>"),
    ("list<string>", "list<string>"),
    ("list[str]", "list<string>"),
    ("array(text)", "list<string>"),
    (" List < :string > ", "list<string>"),
    (["list", "string"], "list<string>"),
    ([":list", ":string"], "list<string>"),
    ({"list": "string"}, "list<string>"),
    ({"array": "string"}, "list<string>"),
    ({"type": "array", "items": {"type": "string"}}, "list<string>"),
    ({"items": "string"}, "list<string>"),
    ({"type": "array", "items": True}, "list<any>"),
    ({"type": {"type": "integer"}}, "integer"),
    ("list<probability>", {"type": "list", "items": PROBABILITY}),
    ("dict<string, integer>", "dict<string, integer>"),
    ("Dict[k, v]".replace("k", "str").replace("v", "int"), "dict<string, integer>"),
    ("map<int,bool>", "dict<integer, boolean>"),
    (["dict", "string", "integer"], "dict<string, integer>"),
    (["map", "string", ["list", "integer"]], "dict<string, list<integer>>"),
    ({"dict": ["string", "integer"]}, "dict<string, integer>"),
    ({"map": ["string", "integer"]}, "dict<string, integer>"),
    ({"type": "object", "additionalProperties": "integer"}, "dict<string, integer>"),
    ({"additionalProperties": {"type": "integer"}}, "dict<string, integer>"),
    ({"type": "object", "additionalProperties": True}, "dict<string, any>"),
    (
        {"dict": [{"enum": ["a"], "type": "string"}, "integer"]},
        {"dict": [{"type": "string", "enum": ["a"]}, "integer"]},
    ),
    ("union<string|integer>", "union<string | integer>"),
    ("union<string, integer>", "union<string | integer>"),
    ("Union[str, int]", "union<string | integer>"),
    ("string | integer", "union<string | integer>"),
    ("(string | integer)", "union<string | integer>"),
    (["union", ["string", "integer"]], "union<string | integer>"),
    (["string", "integer"], "union<string | integer>"),
    ({"union": ["string", "integer"]}, "union<string | integer>"),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "union<string | integer>"),
    ({"oneOf": ["string", "integer"]}, "union<string | integer>"),
    ({"type": ["string", "integer"]}, "union<string | integer>"),
    ("union<string | union<integer | string>>", "union<string | integer>"),
    ("string | str | text", "string"),
    ("string | any", "any"),
    ("union<string>", "string"),
    ("Optional[string]", "string?"),
    ("string?", "string?"),
    ("string??", "string?"),
    ("string | null", "string?"),
    ("nil | string", "string?"),
    ("Union[str, None]", "string?"),
    ("str | NoneType", "string?"),
    (["optional", "string"], "string?"),
    ({"optional": "string"}, "string?"),
    ({"type": ["string", "null"]}, "string?"),
    ({"type": ["array", "null"], "items": "string"}, "list<string>?"),
    (["string", None], "string?"),
    ({"anyOf": ["string", {"type": "null"}]}, "string?"),
    ("string? | integer", "union<string | integer>?"),
    ("any?", "any"),
    ("list<string?>", "list<string?>"),
    ("list<string | integer>", "list<union<string | integer>>"),
    ("string | integer?", "union<string | integer>?"),
    (
        {"type": "array", "items": {"type": "string", "minLength": 2}},
        {"type": "list", "items": {"type": "string", "min_length": 2}},
    ),
    ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ({"enum": ["a", 1, None]}, {"type": "any", "enum": ["a", 1, None]}),
    (
        {"type": "object", "properties": {"a": "int", "b": {"type": "string", "minLength": 1}}, "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": "integer", "b": {"type": "string", "min_length": 1}},
            "required": ["a"],
        },
    ),
    (
        {"properties": {"a": "int", "b?": {"default": 5, "description": " d "}}},
        {
            "type": "object",
            "properties": {"a": "integer", "b?": {"type": "any", "description": "d", "default": 5}},
            "required": ["a"],
        },
    ),
    (
        {"type": ["object", "null"], "properties": {"e\u0301": True}, "required": ["e\u0301"]},
        {"type": "object?", "properties": {"\u00e9": "any"}, "required": ["\u00e9"]},
    ),
    (
        {"list": {"type": "object", "properties": {"class": {"enum": ["a"]}}, "additionalProperties": False}},
        {
            "type": "list",
            "items": {
                "type": "object",
                "properties": {"class": {"type": "any", "enum": ["a"]}},
                "required": ["class"],
            },
        },
    ),
    (
        {"properties": {"a": {"type": "integer", "default": None}, "b": {"list": "str", "default": ["x"]}}},
        {
            "type": "object",
            "properties": {"a": "integer", "b": {"type": "list<string>", "default": ["x"]}},
            "required": [],
        },
    ),
    (
        {"anyOf": [{"properties": {"a": "string"}}, {"properties": {"a": "str"}}, "null"]},
        {"type": "object?", "properties": {"a": "string"}, "required": ["a"]},
    ),
    ("<".join(["list"] * 8) + "<string" + ">" * 8, "<".join(["list"] * 8) + "<string" + ">" * 8),
]


@pytest.mark.parametrize(("spelling", "expected"), SPELLINGS, ids=[json.dumps(one) for one, _ in SPELLINGS])
def test_every_spelling_of_a_type_has_one_canonical_form(spelling: Any, expected: Any) -> None:
    """The type table of the wire contract."""
    actual = canonical(spelling)

    assert expected == actual


@pytest.mark.parametrize("spelling", [one for one, _ in SPELLINGS], ids=[json.dumps(one) for one, _ in SPELLINGS])
def test_a_normalised_definition_is_read_to_the_same_fingerprint(spelling: Any) -> None:
    """to_json is itself a definition of the same signature."""
    signature = parse(one_output(spelling))

    assert signature.fingerprint == parse(json.loads(json.dumps(signature.to_json()))).fingerprint


CONSTRAINTS: list[tuple[Any, Any, Any]] = [
    ("integer", {"minimum": 1}, {"type": "integer", "minimum": 1}),
    ("integer", {"min_value": 1, "ge": 1.0, "gte": 1, "gteq": 1}, {"type": "integer", "minimum": 1}),
    ("integer", [["max", 5], ["le", 5]], {"type": "integer", "maximum": 5}),
    ("integer", {"maxValue": 5, "lte": 5, "lteq": 5, "maximum": 5}, {"type": "integer", "maximum": 5}),
    ("integer", {"gt": 0, "lt": 10}, {"type": "integer", "minimum": 1, "maximum": 9}),
    ("integer", {"minimum": 0.5, "maximum": 9.5}, {"type": "integer", "minimum": 1, "maximum": 9}),
    ("float", {"min": 0, "max": 1}, PROBABILITY),
    ("float", {"exclusiveMinimum": 0}, {"type": "float", "exclusive_minimum": 0.0}),
    ("float", {"gt": 0, "ge": 0}, {"type": "float", "exclusive_minimum": 0.0}),
    ("float", {"lt": 5, "le": 3}, {"type": "float", "maximum": 3.0}),
    ("float", {"minimum": -0.0, "maximum": 1}, PROBABILITY),
    ("probability", {"maximum": 0.5}, {"type": "float", "minimum": 0.0, "maximum": 0.5}),
    ("probability", {"minimum": -1}, PROBABILITY),
    ("string", {"min": 1, "maxLength": 5}, {"type": "string", "min_length": 1, "max_length": 5}),
    ("string", {"length": 3}, {"type": "string", "min_length": 3, "max_length": 3}),
    ("string", {"length": 3, "min_length": 3}, {"type": "string", "min_length": 3, "max_length": 3}),
    ("string", {"min_length": 0}, "string"),
    ("string", [], "string"),
    ("string", None, "string"),
    ("list<string>", {"min": 1, "maxItems": 5}, {"type": "list<string>", "min_items": 1, "max_items": 5}),
    ("list<string>", {"min_length": 1}, {"type": "list<string>", "min_items": 1}),
    ("embedding", {"dimensions": 3}, {"type": "list<float>", "min_items": 3, "max_items": 3}),
    ("atom", {"one_of": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ("string", {"oneOf": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ("string", {"in": ["a", "a"], "choices": ["a"]}, {"type": "string", "enum": ["a"]}),
    ("string?", {"enum": ["a", None]}, {"type": "string?", "enum": ["a"]}),
    ("float", {"enum": [1, 2.5]}, {"type": "float", "enum": [1.0, 2.5]}),
    ("integer", {"enum": [1.0, 2], "minimum": 0}, {"type": "integer", "enum": [1, 2]}),
    ("boolean", {"enum": [True]}, {"type": "boolean", "enum": [True]}),
    ("string | integer", {"enum": ["1", 1]}, {"anyOf": ["string", "integer"], "enum": ["1", 1]}),
    ("string | null", {"min_length": 2}, {"type": "string?", "min_length": 2}),
    ("string | integer", {"minimum": 2}, {"anyOf": ["string", {"type": "integer", "minimum": 2}]}),
    ("string", {"pattern": "a+"}, {"type": "string", "pattern": "a+"}),
    ("string", {"pattern": "a", "format": "/a/"}, {"type": "string", "pattern": "a"}),
    ("atom", {"format": "date_time"}, {"type": "string", "format": "date-time"}),
    ("string", {"format": "email", "pattern": "@x"}, {"type": "string", "pattern": "@x", "format": "email"}),
    ("string", {"format": "hostname"}, "string"),
    ("integer", {"format": "int64"}, "integer"),
    ("string", {"pattern": "^a", "enum": ["ab"]}, {"type": "string", "enum": ["ab"]}),
    ("integer", {"multipleOf": 0.3}, {"type": "integer", "multiple_of": 3}),
    ("integer", {"multiple_of": 2.0}, {"type": "integer", "multiple_of": 2}),
    ("integer", {"multiple_of": 0.5}, "integer"),
    ("float", {"multiple_of": 1}, {"type": "float", "multiple_of": 1.0}),
    ("list", {"uniqueItems": True}, {"type": "list<any>", "unique_items": True}),
    ("list", {"unique_items": False}, "list<any>"),
    (
        "list<boolean?>",
        {"unique_items": True, "min": 3},
        {"type": "list<boolean?>", "min_items": 3, "unique_items": True},
    ),
    ("map", {"min": 1, "maxProperties": 3}, {"type": "dict<string, any>", "min_properties": 1, "max_properties": 3}),
    ("map", {"min_properties": 0}, "dict<string, any>"),
    (
        {"type": "object", "additionalProperties": {"type": "string", "pattern": "a"}},
        {"minProperties": 1},
        {
            "type": "dict<string, any>",
            "additionalProperties": {"type": "string", "pattern": "a"},
            "min_properties": 1,
        },
    ),
    (
        {"anyOf": ["map", {"type": "list<integer>", "uniqueItems": True}]},
        {"min": 2, "uniqueItems": True},
        {
            "anyOf": [
                {"type": "dict<string, any>", "min_properties": 2},
                {"type": "list<integer>", "min_items": 2, "unique_items": True},
            ]
        },
    ),
    (
        {"anyOf": [{"type": "list", "uniqueItems": True}, "integer"]},
        {"uniqueItems": False},
        {"anyOf": [{"type": "list<any>", "unique_items": True}, "integer"]},
    ),
    (
        {"anyOf": [{"type": "string", "pattern": "a"}, "integer"]},
        {"pattern": "a", "multiple_of": 2},
        {"anyOf": [{"type": "string", "pattern": "a"}, {"type": "integer", "multiple_of": 2}]},
    ),
    (
        {"properties": {"a": "int", "b": {"type": "string", "optional": True}}},
        {"enum": [{"a": 1.0}]},
        {
            "type": "object",
            "properties": {"a": "integer", "b": "string"},
            "required": ["a"],
            "enum": [{"a": 1, "b": None}],
        },
    ),
    ({"type": "integer", "minimum": 1}, {"ge": 1}, {"type": "integer", "minimum": 1}),
    ({"anyOf": [{"type": "string", "enum": ["abc"]}]}, {"min": 3}, {"type": "string", "enum": ["abc"]}),
    (
        {"anyOf": [{"type": "str | int", "enum": ["abc", 5]}]},
        {"min": 3},
        {"type": "union<string | integer>", "enum": ["abc", 5]},
    ),
]


@pytest.mark.parametrize(("type_", "constraints", "expected"), CONSTRAINTS)
def test_every_spelling_of_a_constraint_has_one_canonical_form(type_: Any, constraints: Any, expected: Any) -> None:
    """The constraint table of the wire contract, as objects and as lists of pairs."""
    actual = canonical(type_, constraints=constraints)

    if isinstance(expected, dict) and "anyOf" in expected and "enum" in expected:
        expected = {"type": "union<string | integer>", "enum": expected["enum"]}
    assert expected == actual


REFUSED: list[tuple[Any, str, bool]] = [
    (5, "invalid_signature", True),
    (["a"], "invalid_signature", True),
    (True, "invalid_signature", True),
    ("", "invalid_signature", False),
    ("question", "invalid_signature", False),
    ("a -> b -> c", "invalid_signature", False),
    ("-> b", "invalid_signature", False),
    ("a ->", "invalid_signature", False),
    ("a, -> b", "invalid_field_name", False),
    ("1a -> b", "invalid_field_name", False),
    ("user-id -> b", "invalid_field_name", False),
    ("a -> a", "invalid_field_name", False),
    (f"{'a' * 65} -> b", "invalid_field_name", True),
    (", ".join(f"a{index}" for index in range(101)) + " -> b", "invalid_signature", True),
    (", ".join(f"a{index}" for index in range(100)) + " -> b", "invalid_signature", True),
    ("a -> b: " + "list<" * 9 + "string" + ">" * 9, "invalid_signature", True),
    ("a -> b: " + "(" * 60 + "string" + ")" * 60, "invalid_signature", True),
    ("a -> b: " + "string | " * 20_000 + "string", "invalid_signature", True),
    ({"inputs": [{"name": "a" * 10**6}], "outputs": [{"name": "b"}]}, "invalid_field_name", True),
    (one_output("string", constraints={"enum": [str(one) for one in range(10_001)]}), "invalid_constraint", True),
    (one_output(["string"] * 101), "invalid_signature", True),
    ("a -> b: string | ?", "unknown_type", False),
    (one_output("string", constraints={"min_length": 1e300}), "invalid_constraint", False),
    (one_output("list<string>", constraints={"minimum": 1, "min": 1}), "invalid_constraint", False),
    (one_output({"anyOf": ["string", "integer"], "enum": ["a", 5]}, min=3), "invalid_constraint", False),
    (one_output({"type": {"type": "string | integer", "enum": ["a"]}, "enum": [1]}), "invalid_constraint", False),
    (
        one_output({"anyOf": [{"anyOf": ["string", "integer"], "enum": ["a", 5]}], "min": 3}),
        "invalid_constraint",
        False,
    ),
    (one_output({"anyOf": [{"enum": ["a", 5], "type": "int | str"}, "float"], "min": 3}), "invalid_constraint", False),
    (one_output("string", default=object()), "invalid_constraint", False),
    (one_output("string string"), "unknown_type", False),
    (one_output({"oneOf": [["null"], {"enum": ["a"]}], "min": 1}), "invalid_constraint", False),
    ("a -> b: strng", "unknown_type", False),
    ("a -> b: os.system", "unknown_type", False),
    ("a -> b: list<", "unknown_type", False),
    ("a -> b: list<string]", "unknown_type", False),
    ("a -> b: list<string> integer", "unknown_type", False),
    ("a -> b:", "unknown_type", False),
    ("a -> b: null", "unknown_type", False),
    ("a -> b: list<null>", "unknown_type", False),
    ("a -> b: list<string, string>", "unknown_type", False),
    ("a -> b: dict<string>", "unknown_type", False),
    ("a -> b: dict<float, string>", "unknown_type", False),
    ("a -> b: dict<string?, string>", "unknown_type", False),
    ("a -> b: string<integer>", "unknown_type", False),
    ("a -> b: union", "unknown_type", False),
    ("a -> b: optional<string, integer>", "unknown_type", False),
    ({"name": "x"}, "invalid_signature", False),
    ({"inputs": [{"name": "a"}]}, "invalid_signature", False),
    ({"inputs": {"a": "string"}, "outputs": [{"name": "b"}]}, "invalid_signature", False),
    ({"inputs": ["a"], "outputs": [{"name": "b"}]}, "invalid_signature", False),
    ({"inputs": [{"name": "a"}], "outputs": [{"name": "b"}], "description": 5}, "invalid_signature", False),
    ({"inputs": [{"name": "a"}], "outputs": [{"name": "a"}]}, "invalid_field_name", False),
    ({"inputs": [{}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": 5}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": " "}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": "a "}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": "a#"}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": "a]"}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": "a\nb"}], "outputs": [{"name": "b"}]}, "invalid_field_name", False),
    ({"inputs": [{"name": "\u00e9"}], "outputs": [{"name": "e\u0301"}]}, "invalid_field_name", False),
    (
        {"inputs": [{"name": f"a{index}"} for index in range(100)], "outputs": [{"name": "b"}]},
        "invalid_signature",
        True,
    ),
    (one_output(None), "unknown_type", False),
    (one_output(5), "unknown_type", False),
    (one_output([]), "unknown_type", False),
    (one_output("null"), "unknown_type", False),
    (one_output(["list", "string", "integer"]), "unknown_type", False),
    (one_output(["dict", "string"]), "unknown_type", False),
    (one_output({"$ref": "#/x"}), "unknown_type", False),
    (one_output({"type": "string", "anyOf": ["string"]}), "unknown_type", False),
    (one_output({"anyOf": []}), "unknown_type", False),
    (one_output({"type": "string", "items": "string"}), "unknown_type", False),
    (one_output({"type": "string", "additionalProperties": "string"}), "unknown_type", False),
    (one_output({"dict": "string"}), "unknown_type", False),
    (one_output({"type": "object", "additionalProperties": False}), "unknown_type", False),
    (one_output({"list": {"type": "object", "required": ["a"]}}), "invalid_constraint", False),
    (one_output({"type": "object", "properties": {}}), "unknown_type", False),
    (one_output({"type": "object", "properties": ["a"]}), "unknown_type", False),
    (one_output({"type": "string", "properties": {"a": "string"}}), "unknown_type", False),
    (one_output({"type": "dict<string, integer>", "properties": {"a": "string"}}), "unknown_type", False),
    (one_output({"properties": {"a": "string"}, "additionalProperties": True}), "unknown_type", False),
    (one_output({"properties": {"a": "string"}, "additionalProperties": {"type": "string"}}), "unknown_type", False),
    (one_output({"properties": {"a": "string"}, "items": "string", "type": "list"}), "unknown_type", False),
    (one_output({"properties": {"a": "strng"}}), "unknown_type", False),
    (one_output({"properties": {"a": "null"}}), "unknown_type", False),
    (one_output({"properties": {"a": 5}}), "unknown_type", False),
    (one_output({"properties": {"a": {"$ref": "#/x"}}}), "unknown_type", False),
    (one_output({"properties": {"a]": "string"}}), "invalid_field_name", False),
    (one_output({"properties": {"": "string"}}), "invalid_field_name", False),
    (one_output({"properties": {"a" * 65: "string"}}), "invalid_field_name", True),
    (one_output({"properties": {"\u00e9": "string", "e\u0301": "string"}}), "invalid_field_name", False),
    (one_output({"properties": {"a": "string"}, "required": ["b"]}), "invalid_constraint", False),
    (one_output({"properties": {"a": "string"}, "required": [5]}), "invalid_constraint", False),
    (one_output({"list": {"properties": {"a": "string"}, "required": True}}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"required": True}}, "required": []}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"optional": True}}, "required": ["a"]}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"required": True, "optional": True}}}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"type": "integer", "default": "x"}}}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"type": "integer", "minLength": 1}}}), "invalid_constraint", False),
    (one_output({"properties": {"a": {"description": 5}}}), "invalid_constraint", False),
    (one_output({"properties": {"a": "string"}}, constraints={"min": 1}), "invalid_constraint", False),
    (one_output({"properties": {"a": "string"}}, constraints={"enum": [{"b": "x"}]}), "invalid_constraint", False),
    (one_output({"properties": {"a": "string"}}, default={}), "invalid_constraint", False),
    (one_output({"properties": {f"a{index}": "string" for index in range(101)}}), "invalid_signature", True),
    (one_output(nested_object(9)), "invalid_signature", True),
    (one_output("map", constraints={"properties": {"a": "string"}}), "invalid_constraint", False),
    (one_output("map", constraints={"additionalProperties": "string"}), "invalid_constraint", False),
    (one_output("string", constraints="x"), "invalid_constraint", False),
    (one_output("string", constraints=[["a", 1, 2]]), "invalid_constraint", False),
    (one_output("string", constraints={"pattern": 5}), "invalid_constraint", False),
    (one_output("string", constraints={"pattern": "("}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "(?=a)"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "(?<!a)b"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": r"(a)\1"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "(a{1000}){1000}"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": r"\w{10000}"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "a" * 1001}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "(?x) a # [\n"}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "(" * 300 + ")" * 300}), "invalid_constraint", True),
    (one_output("string", constraints={"pattern": "\ud800"}), "invalid_constraint", False),
    (one_output("string", constraints={"pattern": "a", "format": "/b/"}), "invalid_constraint", False),
    (one_output({"type": "string", "pattern": "a"}, constraints={"pattern": "b"}), "invalid_constraint", False),
    (one_output({"anyOf": [{"type": "string", "pattern": "a"}], "pattern": "b"}), "invalid_constraint", False),
    (one_output("integer", constraints={"pattern": "a"}), "invalid_constraint", False),
    (one_output("string", constraints={"pattern": "^a", "enum": ["ab", "ba"]}), "invalid_constraint", False),
    (one_output("string", constraints={"format": 5}), "invalid_constraint", False),
    (one_output("string", constraints={"format": "/(/"}), "invalid_constraint", True),
    (one_output("integer", constraints={"format": "date"}), "invalid_constraint", False),
    (one_output("string", constraints=[["format", "date"], ["format", "time"]]), "invalid_constraint", False),
    (one_output("string", constraints={"format": "date"}, default="1 May"), "invalid_constraint", False),
    (one_output("integer", constraints={"multipleOf": 0}), "invalid_constraint", False),
    (one_output("integer", constraints={"multipleOf": -2}), "invalid_constraint", False),
    (one_output("integer", constraints={"multipleOf": "2"}), "invalid_constraint", False),
    (one_output("float", constraints={"multipleOf": 10**400}), "invalid_constraint", False),
    (one_output("string", constraints={"multipleOf": 2}), "invalid_constraint", False),
    (one_output("integer", constraints={"multipleOf": 5, "min": 1, "max": 4}), "invalid_constraint", False),
    (one_output("float", constraints={"multipleOf": 0.1, "gt": 0.1, "lt": 0.2}), "invalid_constraint", False),
    (one_output("float", constraints={"multipleOf": 0.1}, default=0.25), "invalid_constraint", False),
    (one_output("list", constraints={"uniqueItems": "yes"}), "invalid_constraint", False),
    (one_output("string", constraints={"uniqueItems": True}), "invalid_constraint", False),
    (one_output("list<boolean>", constraints={"uniqueItems": True, "min": 3}), "invalid_constraint", False),
    (one_output("list", constraints={"uniqueItems": True}, default=[1, 1.0]), "invalid_constraint", False),
    (
        one_output({"list": {"type": "string", "enum": ["a"]}}, constraints={"unique_items": True, "min": 2}),
        "invalid_constraint",
        False,
    ),
    (one_output("map", constraints={"min_properties": -1}), "invalid_constraint", False),
    (one_output("map", constraints={"min_properties": 2, "max": 1}), "invalid_constraint", False),
    (one_output("list", constraints={"min_properties": 1}), "invalid_constraint", False),
    (one_output("map", constraints={"min_items": 1}), "invalid_constraint", False),
    (one_output("map", constraints={"max": 0}, default={"a": 1}), "invalid_constraint", False),
    (one_output({"list": {"type": "string", "pattern": "("}}), "invalid_constraint", True),
    (one_output("string", constraints={"minimum": 1}), "invalid_constraint", False),
    (one_output("integer", constraints={"min_length": 1}), "invalid_constraint", False),
    (one_output("string", constraints={"dimensions": 3}), "invalid_constraint", False),
    (one_output("boolean", constraints={"min": 1}), "invalid_constraint", False),
    (one_output("string | boolean", constraints={"minimum": 1}), "invalid_constraint", False),
    (one_output("integer", constraints={"minimum": "1"}), "invalid_constraint", False),
    (one_output("integer", constraints={"minimum": True}), "invalid_constraint", False),
    (one_output("float", constraints={"minimum": 10**400}), "invalid_constraint", False),
    (one_output("float", constraints={"minimum": float("inf")}), "invalid_constraint", False),
    (one_output("string", constraints={"min_length": -1}), "invalid_constraint", False),
    (one_output("string", constraints={"min_length": 1.5}), "invalid_constraint", False),
    (one_output("integer", constraints={"minimum": 1, "ge": 2}), "invalid_constraint", False),
    (one_output({"type": "integer", "minimum": 1}, constraints={"ge": 2}), "invalid_constraint", False),
    (one_output("string", constraints=[["min", 1], ["min", 2]]), "invalid_constraint", False),
    (one_output("integer", constraints={"min": 2, "max": 1}), "invalid_constraint", False),
    (one_output("integer", constraints={"gt": 1, "lt": 2}), "invalid_constraint", False),
    (one_output("float", constraints={"ge": 1, "lt": 1}), "invalid_constraint", False),
    (one_output("probability", constraints={"minimum": 2}), "invalid_constraint", False),
    (one_output("string", constraints={"min": 2, "max": 1}), "invalid_constraint", False),
    (one_output("string", constraints={"enum": []}), "invalid_constraint", False),
    (one_output("string?", constraints={"enum": [None]}), "invalid_constraint", False),
    (one_output("string", constraints={"enum": "a"}), "invalid_constraint", False),
    (one_output("string", constraints={"enum": ["a", 1]}), "invalid_constraint", False),
    (one_output("string", constraints={"enum": ["a", None]}), "invalid_constraint", False),
    (one_output("string", constraints={"enum": ["a"], "one_of": ["b"]}), "invalid_constraint", False),
    (one_output("integer", constraints={"enum": [1, 5], "max": 3}), "invalid_constraint", False),
    (one_output("integer", constraints={"enum": [True]}), "invalid_constraint", False),
    (
        one_output({"anyOf": [{"type": "string", "enum": ["a"]}, "integer"], "min_length": 2}),
        "invalid_constraint",
        False,
    ),
    (one_output("string", default=5), "invalid_constraint", False),
    (one_output("integer", constraints={"default": 0, "minimum": 1}), "invalid_constraint", False),
    (one_output("string", default="a", constraints={"default": "b"}), "invalid_constraint", False),
    (one_output("string", required="yes"), "invalid_constraint", False),
    (one_output("string", required="yes", default="a"), "invalid_constraint", False),
    (one_output("string", required=True, constraints={"required": False}), "invalid_constraint", False),
    (one_output("string", constraints={"required": True, "optional": True}), "invalid_constraint", False),
    (one_output("string", constraints={"description": 5}), "invalid_constraint", False),
    (one_output("string", description=5), "invalid_signature", False),
]


@pytest.mark.parametrize(("definition", "code", "breaks_limit"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_a_bad_definition_is_refused_with_its_code(definition: Any, code: str, breaks_limit: bool) -> None:
    """Code, limit and at least one problem with its place."""
    error = refusal(definition)

    assert str(error).startswith("Failed to create program: ")
    assert error.problems
    assert all(problem.path.startswith("/signature") for problem in error.problems)
    assert (code, breaks_limit) == (error.code, error.breaks_limit)


def test_a_refusal_names_field_problem_place_and_nearest_spelling() -> None:
    """What a sender needs to mend the definition."""
    error = refusal({"inputs": [{"name": "text", "type": "strng"}], "outputs": [{"name": "x"}]})

    assert error.field == "text"
    assert error.reason == "Field text: unknown type `strng`; did you mean `string`?"
    assert [problem.path for problem in error.problems] == ["/signature/inputs/0/type"]


def test_all_fields_at_fault_are_reported_and_a_broken_limit_comes_first() -> None:
    """One round trip is enough to see everything, and no fallback may hide a limit."""
    fields = [{"name": "a", "type": "strng"}, {"name": "b", "constraints": {"pattern": "("}}]
    error = refusal({"inputs": fields, "outputs": [{"name": "x"}]})

    paths = [problem.path for problem in error.problems]
    assert error.breaks_limit
    assert error.field == "b"
    assert paths == ["/signature/inputs/0/type", "/signature/inputs/1/constraints/pattern"]


@pytest.mark.parametrize(
    "definition",
    [
        None,
        {},
        {"inputs": [], "outputs": []},
        {"inputs": [{"name": "a"}], "outputs": []},
        {"inputs": None},
        "question -> answer",
        " question->answer ",
    ],
)
def test_who_declares_nothing_gets_the_legacy_program(definition: Any) -> None:
    """No definition is no fallback."""
    assert is_legacy(definition)


@pytest.mark.parametrize("definition", [5, [], "", "text -> label", {"name": "x"}, one_output()])
def test_everything_else_is_a_definition_and_never_legacy(definition: Any) -> None:
    """A definition that is wrong must be refused, not replaced in silence."""
    assert not is_legacy(definition)


def test_the_legacy_signature_asks_one_question() -> None:
    """The shape of DSPex's Q&A program."""
    assert parse("question -> answer").fingerprint == LEGACY.fingerprint


@pytest.mark.parametrize(
    "name", ["text", "größe", "valid?", "save!", "_x", "class", "user-id", "user id", "a.b", "a/b", "f0", "名前", "½x"]
)
def test_a_definition_object_may_use_any_printable_name(name: str) -> None:
    """DSPex mapped such names to underscores; here they stay."""
    signature = parse({"inputs": [{"name": name}], "outputs": [{"name": "out"}]})

    assert name == signature.inputs[0].name


def test_a_name_in_a_string_signature_ends_at_the_colon() -> None:
    """So a question mark before it belongs to the name."""
    signature = parse("valid?: string?, größe -> ok!: boolean")

    names = [one.name for one in (*signature.inputs, *signature.outputs)]
    assert signature.inputs[0].type.nullable
    assert names == ["valid?", "größe", "ok!"]


def test_names_are_compared_in_nfc() -> None:
    """Two ways to encode one letter are one name."""
    assert parse("gro\u0308ße -> b").inputs[0].name == "gr\u00f6ße"


def test_defaults_of_a_definition() -> None:
    """Only inputs and outputs are required."""
    signature = parse({"inputs": [{"name": "a"}], "outputs": [{"name": "b"}]})

    field = signature.inputs[0]
    assert (signature.name, signature.description, signature.warnings) == ("DynamicSignature", "", ())
    assert (field.type.kind, field.description, field.required, field.has_default) == ("string", "", True, False)


PRESENCE: list[tuple[dict[str, Any], tuple[bool, bool, Any]]] = [
    ({}, (True, False, None)),
    ({"required": True}, (True, False, None)),
    ({"required": None}, (True, False, None)),
    ({"required": False}, (False, False, None)),
    ({"optional": True}, (False, False, None)),
    ({"required": True, "constraints": {"required": True}}, (True, False, None)),
    ({"required": True, "constraints": {"optional": True}}, (False, False, None)),
    ({"required": True, "default": 3}, (False, True, 3)),
    ({"constraints": [["default", 3.0]]}, (False, True, 3)),
    ({"default": None}, (False, False, None)),
    ({"type": "integer?", "default": None}, (False, True, None)),
    ({"type": {"type": "integer", "default": 3}, "default": 3}, (False, True, 3)),
]


@pytest.mark.parametrize(("more", "expected"), PRESENCE)
def test_what_makes_a_field_optional(more: dict[str, Any], expected: tuple[bool, bool, Any]) -> None:
    """required: false, optional: true or any default; required: true is what senders write on every field."""
    field = parse(one_output(**{"type_": "integer", **more} if "type" not in more else _typed(more))).outputs[0]

    assert expected == (field.required, field.has_default, field.default)


def _typed(more: dict[str, Any]) -> dict[str, Any]:
    return {"type_": more["type"], **{key: value for key, value in more.items() if key != "type"}}


def test_the_fields_own_description_wins_over_its_constraints() -> None:
    """DSPex sends the description in both places."""
    own = parse(one_output(description=" own ", constraints={"description": "other"}))
    other = parse(one_output(description="", constraints={"description": "other"}))

    assert (own.outputs[0].description, other.outputs[0].description) == ("own", "other")


def test_an_unknown_constraint_is_kept_and_warned_about() -> None:
    """It may mean something to the sender's own tools."""
    signature = parse(one_output(constraints={"tone": "kind"}, color="red"))

    assert signature.outputs[0].unknown_constraints == {"tone": "kind"}
    assert signature.warnings == (
        "Field x: unknown key `color` in the field is ignored",
        "Field x: unknown constraint `tone` is kept and not enforced",
    )


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ({"format": "e-mail"}, "unknown format `e-mail` is kept and not enforced; did you mean `email`?"),
        ({"format": "color"}, "unknown format `color` is kept and not enforced"),
        ({"minLenght": 3}, "unknown constraint `minLenght` is kept and not enforced; did you mean `min_length`?"),
        ({"allOf": []}, "unknown constraint `allOf` is kept and not enforced"),
    ],
)
def test_a_warning_names_the_nearest_accepted_spelling(constraints: dict[str, Any], expected: str) -> None:
    """A slip of the pen should not stay unnoticed."""
    signature = parse(one_output(constraints=constraints))

    assert dict(signature.outputs[0].unknown_constraints) == constraints
    assert signature.warnings == (f"Field x: {expected}",)


def test_the_fingerprint_is_of_the_meaning_only() -> None:
    """Neither the name nor metadata nor the spelling is in it."""
    first = parse({**one_output("probability"), "name": "A", "metadata": {"created_at": "1"}, "description": " d "})
    second = parse(
        {**one_output("float", constraints=[["max", 1], ["ge", 0]]), "name": "B", "metadata": 5, "description": "d"}
    )

    assert first.fingerprint == second.fingerprint
    assert first != second


@pytest.mark.parametrize(
    "other",
    [
        {**one_output(), "description": "d"},
        one_output("integer"),
        one_output(description="d"),
        one_output(required=False),
        one_output(default="d"),
        one_output(constraints={"min": 1}),
        one_output(constraints={"tone": "kind"}),
        one_output(constraints={"pattern": "a"}),
        one_output(constraints={"format": "date"}),
        one_output({"properties": {"a": "string"}}),
        {"inputs": [{"name": "x"}], "outputs": [{"name": "q"}]},
    ],
)
def test_any_other_meaning_has_another_fingerprint(other: dict[str, Any]) -> None:
    """Fields, order, types, constraints, defaults and descriptions all count."""
    assert parse(one_output()).fingerprint != parse(other).fingerprint


def test_a_normalised_field_keeps_default_and_unknown_constraints() -> None:
    """Nothing of the meaning is lost on the way."""
    signature = parse(one_output("integer", default=3.0, constraints={"tone": {"a": [1]}}))

    assert signature.to_json()["outputs"] == [
        {
            "name": "x",
            "type": "integer",
            "description": "",
            "required": False,
            "constraints": {"tone": {"a": [1]}},
            "default": 3,
        }
    ]
    assert signature.fingerprint == parse(signature.to_json()).fingerprint


def test_choices_differ_by_json_type() -> None:
    """1, "1" and true are three choices."""
    prints = {parse(one_output("any", constraints={"enum": [choice]})).fingerprint for choice in (1, "1", True)}

    assert len(prints) == 3


def test_a_field_may_itself_be_a_schema_object() -> None:
    """Keys such as items and keywords beside the name mean what they mean inside the type."""
    beside = parse(one_output("array", items={"type": "string"}, minItems=1))

    assert (
        beside.fingerprint
        == parse(one_output({"type": "array", "items": "string"}, constraints={"min": 1})).fingerprint
    )


def test_a_field_may_itself_be_a_nested_object() -> None:
    """Its list of required members is no word on the field's own presence."""
    members = {"properties": {"a": "string", "b": "integer"}, "required": ["a"]}
    beside = parse(one_output("object", **members))

    assert beside.outputs[0].required
    assert beside.fingerprint == parse(one_output({"type": "object", **members})).fingerprint


def test_objects_differ_by_every_part_of_a_member() -> None:
    """Name, type, description, presence and default all count."""
    spellings: list[Any] = [
        {"a": "string"},
        {"b": "string"},
        {"a": "string?"},
        {"a": {"type": "string", "description": "d"}},
        {"a": {"type": "string", "optional": True}},
        {"a": {"type": "any", "default": 1}},
        {"a": {"type": "any", "default": True}},
        {"a": {"type": "any", "default": "1"}},
    ]
    types = {parse(one_output({"properties": one})).outputs[0].type for one in spellings}
    prints = {parse(one_output({"properties": one})).fingerprint for one in spellings}

    assert (len(spellings), len(spellings)) == (len(types), len(prints))


def test_a_signature_can_be_a_key() -> None:
    """Caches hold signatures."""
    signature: Signature = parse(one_output("list<string>", default=["a"]))

    assert len({signature, parse(one_output("list[str]", default=["a"]))}) == 1
    assert len({signature.outputs[0].type, signature.outputs[0].type}) == 1


def test_nothing_is_imported_from_wire_text() -> None:
    """DSPy's own parser imports the module that a type name spells."""
    before = set(sys.modules)
    for text in ("a: antigravity -> b", "a -> b: this", "a -> b: turtle.Turtle", "a: list[wave] -> b"):
        refusal(text)

    assert before == set(sys.modules)
