"""Promises that hold for every definition, tried on generated ones."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from worker.errors import DefinitionError
from worker.signatures import (
    Signature,
    check_outputs,
    describe_type,
    is_legacy,
    parse,
    python_type,
    read_json_outputs,
    read_outputs,
    sample_outputs,
    write_schema,
)
from worker.signatures.classes import make_signature_class
from worker.signatures.formats import FORMATS

SCALARS = st.sampled_from(["string", "integer", "float", "boolean", "any", "probability", "str?", "embedding"])


def _bounds(low: str, high: str, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    pairs = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
    both = pairs.map(lambda ends: {low: ends[0], high: ends[1]})
    return st.one_of(st.just({}), both, numbers.map(lambda end: {low: end}), numbers.map(lambda end: {high: end}))


SPANS = st.integers(-(10**20), 10**20)
FLOATS = st.floats(-1e300, 1e300, allow_nan=False)
CONSTRAINED = st.one_of(
    _bounds("minimum", "maximum", SPANS).map(lambda more: {"type": "integer", **more}),
    _bounds("ge", "le", FLOATS).map(lambda more: {"type": "float", **more}),
    _bounds("gt", "le", FLOATS).map(lambda more: {"type": "number", **more}),
    _bounds("min_length", "max_length", st.integers(0, 40)).map(lambda more: {"type": "string", **more}),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=4).map(
        lambda choices: {"type": "string", "enum": choices}
    ),
    st.lists(st.one_of(st.integers(), st.booleans(), st.text("ab", max_size=2)), min_size=1, max_size=4).map(
        lambda choices: {"enum": choices}
    ),
    st.sampled_from(sorted(FORMATS)).map(lambda name: {"type": "string", "format": name}),
    st.sampled_from(["^[a-z]+$", r"^\d{3}$", "b", "^(yes|no)$"]).map(lambda one: {"type": "string", "pattern": one}),
    st.integers(1, 1000).map(lambda step: {"type": "integer", "multipleOf": step}),
    st.integers(1, 1000).map(lambda step: {"type": "float", "multipleOf": step / 100, "min": -5}),
    st.integers(1, 5).map(lambda count: {"type": "map", "minProperties": count}),
)
NAMES = st.sampled_from(["a", "class", "model_fields", "f0", "größe", "user-id", "valid?", "a/b", "completed"])
MORE: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {"optional": True}, {"description": "what it is"}])


def _object(members: list[tuple[str, Any, dict[str, Any]]]) -> dict[str, Any]:
    spelled = {name: {**as_schema(one), **more} for name, one, more in members}
    return {"type": "object", "properties": spelled}


def as_schema(spelling: Any) -> dict[str, Any]:
    return spelling if isinstance(spelling, dict) else {"type": spelling}


def _nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        inner.map(lambda one: ["list", one]),
        inner.map(lambda one: {"type": "array", "items": one, "maxItems": 3}),
        inner.map(lambda one: {"dict": ["string", one]}),
        inner.map(lambda one: {"dict": ["integer", one]}),
        inner.map(lambda one: {"type": "array", "items": one, "uniqueItems": True}),
        st.lists(st.tuples(NAMES, inner, MORE), min_size=1, max_size=3, unique_by=lambda one: one[0]).map(_object),
        inner.map(lambda one: ["optional", one]),
        st.lists(inner, min_size=1, max_size=3).map(lambda many: {"anyOf": many}),
    )


SPELLINGS = st.recursive(st.one_of(SCALARS, CONSTRAINED), _nest, max_leaves=6)


def definition_of(spellings: list[Any]) -> dict[str, Any]:
    outputs = [{"name": f"out {index}", "type": one} for index, one in enumerate(spellings)]
    return {"inputs": [{"name": "in"}], "outputs": outputs}


DEFINITIONS = st.lists(SPELLINGS, min_size=1, max_size=3).map(definition_of)


@given(DEFINITIONS)
def test_the_normalised_form_means_the_same(definition: dict[str, Any]) -> None:
    """Reading what was written gives the same fingerprint, and writing it again the same text."""
    signature = parse(definition)
    again = parse(json.loads(json.dumps(signature.to_json())))

    assert signature.fingerprint == again.fingerprint
    assert signature.to_json() == again.to_json()


def sampled(signature: Signature, *, seed: str = "") -> dict[str, object]:
    """Return a sample; where none is found, which names the field, the example is no counterexample."""
    try:
        return sample_outputs(signature, seed=seed)
    except ValueError as error:
        if not str(error).startswith("Field out "):
            raise
        reject()


@given(DEFINITIONS, st.text(max_size=5))
def test_samples_are_valid_and_the_same_for_the_same_seed(definition: dict[str, Any], seed: str) -> None:
    """The offline model answers any signature with valid values."""
    signature = parse(definition)
    sample = sampled(signature, seed=seed)
    taken, _ = check_outputs(signature, sample)

    assert json.dumps(sample) == json.dumps(sample_outputs(signature, seed=seed))
    assert json.dumps(sample) == json.dumps(taken)


@given(DEFINITIONS)
def test_what_a_model_writes_down_is_read_back(definition: dict[str, Any]) -> None:
    """A valid value, written as text the way a model does, is read as a valid value."""
    signature = parse(definition)
    sample = sampled(signature)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in sample.items()}
    read = read_outputs(signature, texts)
    taken, _ = check_outputs(signature, read)

    assert taken == read


@given(DEFINITIONS)
def test_every_accepted_type_has_a_phrase_and_a_python_type(definition: dict[str, Any]) -> None:
    """Nothing accepted fails later."""
    signature = parse(definition)
    made = make_signature_class(signature)

    assert all(describe_type(one.type) for one in signature.outputs)
    assert all(python_type(one.type) is not None for one in signature.outputs)
    assert [f"f{index}" for index in range(len(signature.outputs) + 1)] == list(made.model_fields)


@given(DEFINITIONS)
def test_a_valid_value_satisfies_the_full_schema(definition: dict[str, Any]) -> None:
    """The schema never promises less than the worker enforces."""
    signature = parse(definition)
    sample = sampled(signature)
    schema = write_schema(signature, dialect="full", side="outputs")
    validator = Draft202012Validator(as_decimals(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)

    assert list(validator.iter_errors(as_decimals(sample))) == []


def as_decimals(value: Any) -> Any:
    """The validator divides binary floats, by which 0.3 is no multiple of 0.1."""
    return json.loads(json.dumps(value), parse_float=Decimal)


@given(DEFINITIONS)
def test_an_answer_in_json_is_read_back(definition: dict[str, Any]) -> None:
    """In the full dialect as it stands."""
    signature = parse(definition)
    sample = sampled(signature)
    read = read_json_outputs(signature, json.dumps(sample))

    assert json.dumps(sample) == json.dumps(read)


@given(DEFINITIONS)
def test_the_strict_schema_has_only_what_openai_takes(definition: dict[str, Any]) -> None:
    """Closed objects that require all, and no keyword that is refused."""
    schema = write_schema(parse(definition), dialect="strict", side="outputs")

    Draft202012Validator.check_schema(schema)
    for node in nodes_of(schema):
        assert node.keys() <= STRICT_KEYS
        assert "type" in node or "anyOf" in node
        if node.get("type") == "object":
            assert node["required"] == list(node["properties"])
            assert node["additionalProperties"] is False


STRICT_KEYS = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "description",
    "items",
    "anyOf",
    "enum",
    "pattern",
}
STRICT_KEYS |= {
    "format",
    "multipleOf",
    "maximum",
    "minimum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "minItems",
    "maxItems",
}


def nodes_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    below += [schema["items"]] if "items" in schema else []
    return [schema, *(node for one in below for node in nodes_of(one))]


@given(DEFINITIONS)
def test_a_definition_builds_a_class_whose_fields_equal_it(definition: dict[str, Any]) -> None:
    """Order, sides and types; and nothing is imported on the way."""
    signature = parse(definition)
    make_signature_class(signature)
    before = set(sys.modules)
    made = make_signature_class(parse(definition))

    outputs = [info.annotation for info in made.output_fields.values()]
    assert len(made.input_fields) == len(definition["inputs"])
    assert [name_of(python_type(one.type)) for one in signature.outputs] == [name_of(one) for one in outputs]
    assert before == set(sys.modules)


def name_of(annotation: Any) -> str:
    """Show an annotation; models of nested objects are made anew each time."""
    return str(annotation)


def parsed(definition: object) -> Signature | DefinitionError:
    try:
        return parse(definition)
    except DefinitionError as error:
        return error


WORDS = st.sampled_from(["string", "int", "list", "dict", "union", "optional", "null", "any", "sys", "os.path"])
MARKS = st.sampled_from(["<", ">", "[", "]", "(", ")", ",", "|", "?", ":", " ", "->", "a", "b?", "\n"])


@given(st.lists(st.one_of(WORDS, MARKS), max_size=25).map("".join))
def test_any_text_is_read_or_refused_and_imports_nothing(text: str) -> None:
    """There is no third way out of the grammar."""
    before = set(sys.modules)
    outcome = parsed(text)

    assert isinstance(outcome, DefinitionError) or outcome.fingerprint == parse(outcome.to_json()).fingerprint
    assert before == set(sys.modules)


KEYS = ["type", "items", "anyOf", "enum", "min", "default", "required", "optional", "list", "x", "properties"]
KEYS += ["pattern", "format", "multipleOf", "uniqueItems", "maxProperties", "additionalProperties", "description"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)


@given(JSON, JSON, JSON)
def test_any_json_is_read_or_refused(spelling: Any, constraints: Any, default: Any) -> None:
    """A sender can never cause anything but a coded refusal."""
    field = {"name": "x", "type": spelling, "constraints": constraints, "default": default}
    outcome = parsed({"inputs": [{"name": "q"}], "outputs": [field]})

    assert isinstance(outcome, Signature) or outcome.problems


@given(JSON)
def test_any_json_as_a_definition_is_read_or_refused(definition: Any) -> None:
    """The same one level up."""
    if is_legacy(definition):
        return
    with pytest.raises(DefinitionError):
        parse(definition)


def test_a_sample_that_would_fill_the_memory_is_refused() -> None:
    """The definition is fine; making up a value for it is not."""
    signature = parse(definition_of([{"type": "string", "min_length": 10**9}]))

    with pytest.raises(ValueError, match="more than 200000"):
        sample_outputs(signature, seed="")


def test_a_sample_never_ends_in_a_space() -> None:
    """Readers of the prompt may strip it, and then it would be too short."""
    signature = parse(definition_of([{"type": "string", "length": length} for length in range(1, 60)]))
    sample = sample_outputs(signature, seed="")

    lengths = [len(str(value).strip()) for value in sample.values()]
    assert list(range(1, 60)) == lengths
