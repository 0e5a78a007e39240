"""JSON Schemas of inputs and outputs, in both dialects, and answers that follow them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from worker.errors import OutputInvalidError
from worker.signatures import Dialect, Side, parse, read_json_outputs, sample_outputs, write_schema


def one(type_: Any, **more: Any) -> Any:
    field = {"name": "x", "type": type_, **more}
    return parse({"inputs": [field], "outputs": [{**field, "name": "y"}]})


def written(type_: Any, dialect: Dialect, *, side: Side = "outputs", **more: Any) -> Any:
    schema = write_schema(one(type_, **more), dialect=dialect, side=side)
    Draft202012Validator.check_schema(schema)
    return next(iter(schema["properties"].values()))


def null_or(schema: Any) -> Any:
    return {"anyOf": [schema, {"type": "null"}]}


def text_of(phrase: str, *, kind: Any = "string") -> Any:
    return {"type": kind, "description": f"Written as JSON text: {phrase}"}


SAME: list[tuple[Any, Any]] = [
    ("string", {"type": "string"}),
    ("string?", {"type": ["string", "null"]}),
    ("integer", {"type": "integer"}),
    ("float?", {"type": ["number", "null"]}),
    ("boolean", {"type": "boolean"}),
    ("probability", {"type": "number", "minimum": 0.0, "maximum": 1.0}),
    ({"type": "float", "gt": 0, "lt": 1}, {"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0}),
    ({"type": "integer", "multipleOf": 5}, {"type": "integer", "multipleOf": 5}),
    ("list<string>", {"type": "array", "items": {"type": "string"}}),
    ("list<string>?", null_or({"type": "array", "items": {"type": "string"}})),
    (
        {"type": "embedding", "dimensions": 3},
        {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
    ),
    ("string | integer", {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
    ("string | integer?", {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}),
    ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ({"type": "string", "pattern": r"^\d+$"}, {"type": "string", "pattern": r"^\d+$"}),
    ({"type": "string", "pattern": r"(?i)a"}, {"type": "string"}),
    ({"type": "string", "pattern": r"\p{L}"}, {"type": "string"}),
    ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
]


@pytest.mark.parametrize("dialect", ["full", "strict"])
@pytest.mark.parametrize(("spelling", "expected"), SAME)
def test_both_dialects_write_what_both_take(spelling: Any, expected: Any, dialect: Dialect) -> None:
    """From the normalised form, so any spelling of the type gives the same schema."""
    assert expected == written(spelling, dialect)


OBJECT = {"properties": {"a/b": "string", "c": {"type": "integer", "default": 3, "description": "how many"}}}
CLOSED = {"type": "object", "additionalProperties": False}
OPTIONAL: Any = {"type": ["integer", "null"], "description": "how many"}
DIFFERENT: list[tuple[Any, Any, Any]] = [
    ("any", {}, text_of("any JSON value", kind=["string", "null"])),
    (
        {"type": "string", "min": 1, "max": 5},
        {"type": "string", "minLength": 1, "maxLength": 5},
        {"type": "string"},
    ),
    ({"type": "string", "format": "uri"}, {"type": "string", "format": "uri"}, {"type": "string"}),
    (
        {"type": "list<string>", "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}},
    ),
    (
        "map",
        {"type": "object", "additionalProperties": True},
        text_of("object with string keys; each value: any JSON value"),
    ),
    (
        {"type": "dict<integer, string>", "min": 1},
        {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": "^-?(0|[1-9][0-9]*)$"},
            "minProperties": 1,
        },
        text_of("object of at least 1 entries with (integer) keys; each value: string".replace("(integer)", "integer")),
    ),
    (
        {"dict": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["a"]}]},
        {
            "type": "object",
            "additionalProperties": {"type": "string", "enum": ["a"]},
            "propertyNames": {"enum": ["1"]},
        },
        text_of('object with (integer, one of: 1) keys; each value: string, one of: "a"'),
    ),
    (
        {"dict": [{"type": "string", "enum": ["a"]}, "integer"]},
        {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "propertyNames": {"type": "string", "enum": ["a"]},
        },
        text_of('object with (string, one of: "a") keys; each value: integer'),
    ),
    (
        "list<map>",
        {"type": "array", "items": {"type": "object", "additionalProperties": True}},
        text_of("list; each item: object with string keys; each value: any JSON value"),
    ),
    (
        OBJECT,
        CLOSED | {"properties": {"a/b": {"type": "string"}, "c": OPTIONAL | {"default": 3}}, "required": ["a/b", "c"]},
        CLOSED | {"properties": {"a/b": {"type": "string"}, "c": OPTIONAL}, "required": ["a/b", "c"]},
    ),
    (
        {"type": "string?", "enum": ["a"]},
        {"type": ["string", "null"], "enum": ["a", None]},
        {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
    ),
    (
        {"enum": ["a", 1, 2.5, True, None]},
        {"enum": ["a", 1, 2.5, True, None]},
        {
            "anyOf": [
                {"type": "string", "enum": ["a"]},
                {"type": "boolean", "enum": [True]},
                {"type": "integer", "enum": [1]},
                {"type": "number", "enum": [2.5]},
                {"type": "null"},
            ]
        },
    ),
    ({"enum": [{"a": 1}]}, {"enum": [{"a": 1}]}, text_of('any JSON value, one of: {"a": 1}')),
    (
        {"type": "list<string>", "enum": [["a"]]},
        {"enum": [["a"]]},
        {"type": "array", "items": {"type": "string"}},
    ),
    (
        {"type": "integer", "enum": list(range(1001))},
        {"type": "integer", "enum": list(range(1001))},
        {"type": "integer"},
    ),
    (
        {"type": "string", "enum": [f"{n:060}" for n in range(251)]},
        {"type": "string", "enum": [f"{n:060}" for n in range(251)]},
        {"type": "string"},
    ),
    (
        {"enum": list(range(1001))},
        {"enum": list(range(1001))},
        {"type": ["string", "boolean", "integer", "number"]},
    ),
]


@pytest.mark.parametrize(("spelling", "full", "strict"), DIFFERENT)
def test_the_strict_dialect_leaves_out_what_openai_refuses(spelling: Any, full: Any, strict: Any) -> None:
    """A map cannot be spelled there at all, so its field is asked for as text."""
    assert (full, strict) == (written(spelling, "full"), written(spelling, "strict"))


def test_the_choices_of_a_whole_strict_schema_are_counted() -> None:
    """OpenAI counts them over all properties."""
    choices = {"type": "integer", "enum": list(range(600))}
    signature = parse({"inputs": [{"name": "x"}], "outputs": [{"name": n, "type": choices} for n in ("a", "b")]})
    properties = write_schema(signature, dialect="strict", side="outputs")["properties"]

    assert ["enum" in properties["a"], "enum" in properties["b"]] == [True, False]


FIELDS: list[dict[str, Any]] = [
    {"name": "valid?", "description": "d"},
    {"name": "b", "type": "integer", "default": 3},
    {"name": "c", "type": {"properties": {"e": {"type": "string", "optional": True}}}, "optional": True},
    {"name": "m", "type": "map", "optional": True, "description": "d"},
]
MIXED = parse({"inputs": FIELDS, "outputs": [{**one, "name": f"{one['name']} out"} for one in FIELDS]})
MEMBER = CLOSED | {"properties": {"e": {"type": ["string", "null"]}}}


def test_of_inputs_only_the_required_are_required() -> None:
    """As a sender may give them; null for an optional one counts as absent."""
    schema = write_schema(MIXED, dialect="full", side="inputs")

    assert schema == CLOSED | {
        "properties": {
            "valid?": {"type": "string", "description": "d"},
            "b": {"type": ["integer", "null"], "default": 3},
            "c": null_or(MEMBER | {"required": []}),
            "m": null_or({"type": "object", "additionalProperties": True}) | {"description": "d"},
        },
        "required": ["valid?"],
    }


def test_of_outputs_all_are_required_and_our_own_texts_come_first() -> None:
    """A reply holds all declared names, and optional ones may be null."""
    schema = write_schema(MIXED, dialect="strict", side="outputs", extra_texts={"reasoning": "Think."})

    assert schema == CLOSED | {
        "properties": {
            "reasoning": {"type": "string", "description": "Think."},
            "valid? out": {"type": "string", "description": "d"},
            "b out": {"type": ["integer", "null"]},
            "c out": null_or(MEMBER | {"required": ["e"]}),
            "m out": {
                "type": ["string", "null"],
                "description": "d Written as JSON text: object with string keys; each value: any JSON value",
            },
        },
        "required": ["reasoning", "valid? out", "b out", "c out", "m out"],
    }


def test_a_schema_is_the_callers_own() -> None:
    """Changing it changes nothing in the signature."""
    signature = one({"enum": [{"a": [1]}]}, default={"a": [1]})
    schema = write_schema(signature, dialect="full", side="outputs")
    schema["properties"]["y"]["enum"][0]["a"].append(2)
    schema["properties"]["y"]["default"]["a"].append(2)

    assert signature.outputs[0].type.choices == ({"a": [1]},)
    assert signature.outputs[0].default == {"a": [1]}


@pytest.mark.parametrize(
    ("spelling", "value", "is_valid"),
    [
        ({"type": "float", "multipleOf": 0.1}, 0.3, True),
        ({"type": "float", "multipleOf": 0.1}, 0.35, False),
        (OBJECT, {"a/b": "", "c": None}, True),
        (OBJECT, {"a/b": "", "c": 1, "d": 1}, False),
        ({"type": "dict<integer, any>"}, {"-1": 0}, True),
        ({"type": "dict<integer, any>"}, {"01": 0}, False),
        ({"type": "list", "uniqueItems": True}, [1, "1", True], True),
        ({"type": "list", "uniqueItems": True}, [1, 1], False),
        ({"type": "string", "format": "date"}, "2026-02-31", False),
        ({"type": "string", "pattern": "b"}, "abc", True),
    ],
)
def test_a_full_schema_and_the_worker_agree(spelling: Any, value: Any, is_valid: bool) -> None:
    """What the schema promises is what is enforced."""
    signature = one(spelling)
    schema = as_decimals(write_schema(signature, dialect="full", side="outputs"))
    answer = json.dumps({"y": value})
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)

    assert is_valid == validator.is_valid(as_decimals({"y": value}))
    assert is_valid == is_readable(signature, answer)


def is_readable(signature: Any, answer: str, *, dialect: Dialect = "full") -> bool:
    try:
        read_json_outputs(signature, answer, dialect=dialect)
    except OutputInvalidError:
        return False
    return True


def as_decimals(value: Any) -> Any:
    """The validator divides binary floats, by which 0.3 is no multiple of 0.1."""
    return json.loads(json.dumps(value), parse_float=Decimal)


READ: list[tuple[Any, Any, Any]] = [
    ("string", "text", "text"),
    ("string", "42", "42"),
    ("string?", "", ""),
    ("string?", "null", "null"),
    ("string?", None, None),
    ("integer", 42, 42),
    ("integer", "42", 42),
    ("integer?", "null", None),
    ("boolean", "TRUE", True),
    ("float", 1, 1.0),
    ("any", "5", "5"),
    ("any", '{"a": 1}', '{"a": 1}'),
    ("map", {"a": 1}, {"a": 1}),
    ("map", '{"a": 1}', {"a": 1}),
    ("list<string>", '["a"]', ["a"]),
    ("string | integer", "42", "42"),
    ("boolean | integer", "42", 42),
    ({"type": "string", "enum": ["yes"]}, ' "Yes" ', "yes"),
    ({"type": "string?", "enum": ["None"]}, "None", "None"),
    (OBJECT, {"a/b": "x"}, {"a/b": "x", "c": 3}),
]


@pytest.mark.parametrize(("spelling", "value", "expected"), READ)
def test_a_json_answer_is_taken_as_it_stands_and_else_read_as_text(spelling: Any, value: Any, expected: Any) -> None:
    """JSON tells text from numbers, so a string that fits stays one."""
    actual = read_json_outputs(one(spelling), json.dumps({"y": value}))

    assert json.dumps({"y": expected}) == json.dumps(actual)


STRICT_READ: list[tuple[Any, Any, Any]] = [
    ("any", "5", 5),
    ("any", '{"a": 1}', {"a": 1}),
    ("any", "hello", "hello"),
    ("map", '{"a": 1}', {"a": 1}),
    ("string | map", '{"a": 1}', {"a": 1}),
    ("string | map", "text", "text"),
    ("map", {"a": 1}, {"a": 1}),
    ("string", "5", "5"),
    ("list<map>?", None, None),
]


@pytest.mark.parametrize(("spelling", "value", "expected"), STRICT_READ)
def test_what_the_strict_dialect_asks_for_as_text_is_read_as_text(spelling: Any, value: Any, expected: Any) -> None:
    """The schema said that the text holds JSON."""
    actual = read_json_outputs(one(spelling), json.dumps({"y": value}), dialect="strict")

    assert json.dumps({"y": expected}) == json.dumps(actual)


WRONG: list[tuple[str, list[tuple[str, str]]]] = [
    ("", [("/outputs", "the answer must be one JSON object: Expecting value: line 1 column 1 (char 0)")]),
    ("[]", [("/outputs", "the answer must be a JSON object")]),
    ("null", [("/outputs", "the answer must be a JSON object")]),
    ('{"y": 1} done', [("/outputs", "the answer must be one JSON object: Extra data: line 1 column 10 (char 9)")]),
    ('{"y": 1, "y": 2}', [("/outputs", "the answer must be one JSON object: duplicate key")]),
    ('{"y": NaN}', [("/outputs", "the answer must be one JSON object: NaN is not JSON")]),
    ("{}", [("/outputs/y", "missing")]),
    ('{"y": null}', [("/outputs/y", "missing")]),
    ('{"y": "x"}', [("/outputs/y", "must be JSON: integer")]),
    ('{"y": 1.5}', [("/outputs/y", "must be an integer")]),
    ('{"y": 1, "z/": 2}', [("/outputs/z~1", "is no output of this signature")]),
    ('{"f0": 1}', [("/outputs/y", "missing"), ("/outputs/f0", "is no output of this signature")]),
]


@pytest.mark.parametrize(("answer", "expected"), WRONG)
def test_a_json_answer_that_is_wrong_is_refused_with_every_problem(
    answer: str, expected: list[tuple[str, str]]
) -> None:
    """Unknown names too: something is wrong with such an answer."""
    with pytest.raises(OutputInvalidError) as caught:
        read_json_outputs(one("integer"), answer)

    assert expected == [(problem.path, problem.problem) for problem in caught.value.problems]


def test_a_wrong_text_is_refused_as_text() -> None:
    """It is not read as JSON where a string is declared."""
    with pytest.raises(OutputInvalidError, match="at most 2 characters"):
        read_json_outputs(one({"type": "string?", "max": 2}), '{"y": "null"}')


def test_names_in_an_answer_are_found_in_any_normal_form() -> None:
    """Models write letters one way, senders another."""
    signature = parse("x -> größe: integer")

    assert read_json_outputs(signature, '{"gro\u0308ße": 1}') == {"größe": 1}


@pytest.mark.parametrize(("given", "expected"), [({"reasoning": "So."}, "So."), ({}, ""), ({"reasoning": 5}, "")])
def test_our_own_texts_are_read_beside_the_outputs(given: dict[str, Any], expected: str) -> None:
    """A chain of thought is never a reason to fail."""
    answer = json.dumps({**given, "y": 1})

    assert read_json_outputs(one("integer"), answer, extra_texts=["reasoning"]) == {"reasoning": expected, "y": 1}


@pytest.mark.parametrize("dialect", ["full", "strict"])
def test_a_sample_of_every_kind_is_read_back(dialect: Dialect) -> None:
    """What the schema asks for is what is understood."""
    spellings: list[Any] = ["string?", "integer", "probability", "list<string>", "string | integer", OBJECT]
    for spelling in spellings:
        signature = one(spelling)
        sample = sample_outputs(signature, seed="1")

        assert sample == read_json_outputs(signature, json.dumps(sample), dialect=dialect)


@pytest.mark.parametrize("pattern", ["^[a-z[0-9]]$", "^[a[:digit:]]+$", r"[\]x[y]]", "[]a]", "[^]a]", "(a|[b[c]])"])
def test_a_pattern_with_a_class_in_a_class_is_in_no_schema(pattern: str) -> None:
    """ECMA reads the inner bracket as a character, so it would mean something else."""
    spelling = {"type": "string", "pattern": pattern}

    assert "pattern" not in written(spelling, "full")
    assert "pattern" not in written(spelling, "strict")


@pytest.mark.parametrize("pattern", [r"^[a-z\[\]]+$", r"\[[a-z]\]", "[a][b]", r"a\]b", "^[^a]$"])
def test_a_pattern_with_plain_classes_is_in_both_schemas(pattern: str) -> None:
    """Escaped brackets are the same to all readers."""
    spelling = {"type": "string", "pattern": pattern}

    assert written(spelling, "full")["pattern"] == pattern
    assert written(spelling, "strict")["pattern"] == pattern


def test_objects_that_begin_alike_are_asked_for_as_text_in_strict() -> None:
    """OpenAI refuses an `anyOf` of objects with identical first keys."""
    alike = {"list": {"anyOf": [{"properties": {"k": "integer", word: "string"}} for word in "ab"]}}
    other = {"anyOf": [{"properties": {"a": "integer"}}, {"properties": {"b": "integer", "a": "string"}}, "string"]}

    assert written(alike, "strict")["type"] == "string"
    assert written(alike, "full")["type"] == "array"
    assert "anyOf" in written(other, "strict")


@pytest.mark.parametrize("bound", [2**53, -(2**53), 2**53 + 1, -(2**60)])
def test_bounds_of_integers_that_not_all_readers_have_are_left_out_in_strict(bound: int) -> None:
    """They are checked afterwards."""
    spelling = {"type": "integer", "minimum": bound}

    assert written(spelling, "full")["minimum"] == bound
    assert ("minimum" in written(spelling, "strict")) is (abs(bound) <= 2**53)


def _wide(name: str, count: int) -> dict[str, Any]:
    return {"name": name, "type": {"properties": {f"{index:0>60}": "string" for index in range(count)}}}


def test_names_beyond_what_a_strict_schema_may_have_make_the_heaviest_fields_text() -> None:
    """120,000 characters of names in all."""
    objects = {f"o{n}": {"properties": {f"{i:0>64}": "string" for i in range(90)}} for n in range(21)}
    outputs = [{"name": "big", "type": {"properties": objects}}, _wide("small", 5)]
    signature = parse({"inputs": [{"name": "q"}], "outputs": outputs})
    properties = write_schema(signature, dialect="strict", side="outputs")["properties"]

    assert properties["big"]["type"] == "string"
    assert properties["small"]["type"] == "object"
    assert write_schema(signature, dialect="full", side="outputs")["properties"]["big"]["type"] == "object"


def test_choices_beyond_what_a_strict_schema_may_have_are_left_out() -> None:
    """120,000 characters of names and choices in all."""
    outputs = [
        {"name": f"y{n}", "constraints": {"enum": [f"{n}{i}".ljust(8_000, "x") for i in range(10)]}} for n in range(2)
    ]
    signature = parse({"inputs": [{"name": "q"}], "outputs": outputs})
    properties = write_schema(signature, dialect="strict", side="outputs")["properties"]

    assert "enum" in properties["y0"]
    assert "enum" not in properties["y1"]
