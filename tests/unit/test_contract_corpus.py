"""The shared corpus: what definitions, values and patterns mean to the worker, case by case as to the other clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.left_hand import make_settings
from worker.blueprints import Blueprints
from worker.errors import DefinitionError, InvalidInputsError
from worker.message import CreateArgs
from worker.signatures import Signature, check_inputs, check_outputs, is_legacy, parse
from worker.signatures.patterns import is_found

CORPUS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "contract" / "values.json").read_text())
SIDES = ("inputs", "outputs")

Case = dict[str, Any]


def exact(value: object) -> str:
    """Show a value so that 1, 1.0 and true differ, and the order of members does not."""
    return json.dumps(value, sort_keys=True)


def definition_of(case: Case, side: str) -> Any:
    """Return the case's definition; a case of one field is that field on one side, and a text on the other."""
    if "definition" in case:
        return case["definition"]
    return {one: [{"name": "x" if one == side else "y"}] for one in SIDES} | {side: [field_of(case)]}


def field_of(case: Case) -> Any:
    """Return the case's one field, which may be no more than a type."""
    field = case["field"]
    return {"name": "x", **(field if isinstance(field, dict) else {"type": field})}


def values_of(case: Case) -> Any:
    """Return the values of a case by name."""
    if "values" in case:
        return case["values"]
    return {} if case.get("absent") else {"x": case["value"]}


def expected_values(case: Case, side: str) -> Any:
    """Return what the values are taken as, by name."""
    if "values" in case:
        return case["normalised"]
    return {} if case.get("out_absent") and side == "inputs" else {"x": case["normalised"]}


def sided(cases: list[Case]) -> list[Any]:
    """Return each case once for each side it is about."""
    return [
        pytest.param(case, side, id=f"{case['about']} ({side})")
        for case in cases
        for side in SIDES
        if is_about(case, side)
    ]


def is_about(case: Case, side: str) -> bool:
    return bool(case.get("side", side) == side)


def check(signature: Signature, values: Any, *, side: str) -> dict[str, object]:
    """Return the values as the signature has them."""
    return (check_inputs if side == "inputs" else check_outputs)(signature, values)[0]


VALID = [case for case in CORPUS["values"] if case["valid"]]
INVALID = [case for case in CORPUS["values"] if not case["valid"]]


@pytest.mark.parametrize(("case", "side"), sided(VALID))
def test_a_valid_value_is_taken_as_the_corpus_has_it(case: Case, side: str) -> None:
    """With its JSON type: 1 and 1.0 are two results."""
    signature = parse(definition_of(case, side))
    actual = check(signature, values_of(case), side=side)

    assert exact(expected_values(case, side)) == exact(actual)


@pytest.mark.parametrize(("case", "side"), sided(INVALID))
def test_an_invalid_value_is_refused_with_the_problems_of_the_corpus(case: Case, side: str) -> None:
    """Places and phrases are the same in every client."""
    signature = parse(definition_of(case, side))
    with pytest.raises(InvalidInputsError) as caught:
        check(signature, values_of(case), side=side)

    root = f"/{side}" if "values" in case else f"/{side}/x"
    actual = [{"at": problem.path.removeprefix(root), "problem": problem.problem} for problem in caught.value.problems]
    assert case["problems"] == actual
    assert case.get("error", str(caught.value)) == str(caught.value)
    assert case.get("field" if "values" in case else "", caught.value.field) == caught.value.field


@pytest.mark.parametrize("case", [case for case in CORPUS["definitions"] if case["valid"]], ids=exact)
def test_a_definition_means_what_the_corpus_says(case: Case) -> None:
    """All its spellings are one canonical form."""
    signature = parse(definition_of(case, "outputs")).to_json()
    output: Any = signature["outputs"]

    if "field" in case:
        assert exact([case["type"], case["constraints"]]) == exact([output[0]["type"], output[0]["constraints"]])
    else:
        assert exact([case["inputs"], case["outputs"]]) == exact([signature["inputs"], output])


@pytest.mark.parametrize(
    "case", [case for case in CORPUS["definitions"] if not case["valid"]], ids=lambda case: case["about"]
)
def test_a_wrong_definition_is_refused_with_the_code_of_the_corpus(case: Case) -> None:
    """The same code as at compile time in a client that has one."""
    with pytest.raises(DefinitionError) as caught:
        parse(case["definition"])

    assert case["code"] == caught.value.code


def test_a_program_is_drawn_or_refused_as_the_corpus_says() -> None:
    """What a sender gets that insists on its signature, as the Elixir client does."""
    blueprints = Blueprints(make_settings())
    for case in CORPUS["definitions"]:
        definition = definition_of(case, "outputs")
        if is_legacy(definition):
            continue
        args = CreateArgs(signature=definition, fallback="never")
        if case["valid"]:
            assert blueprints.draw(args).fingerprint == parse(definition).fingerprint
            continue
        with pytest.raises(DefinitionError) as caught:
            blueprints.draw(args)
        assert case["code"] == caught.value.code


@pytest.mark.parametrize("case", CORPUS["patterns"], ids=lambda case: exact(case["pattern"])[:60])
def test_a_pattern_is_taken_and_found_as_the_corpus_says(case: Case) -> None:
    """By the engine that checks values, through a definition that has the pattern."""
    field = {"name": "x", "constraints": {"pattern": case["pattern"]}}
    definition = {"inputs": [field], "outputs": [{"name": "y"}]}
    if not case["valid"]:
        with pytest.raises(DefinitionError, match=r"is refused|is too large"):
            parse(definition)
        return
    parse(definition)

    assert [text for text in case["found"] if not is_found(case["pattern"], text)] == []
    assert [text for text in case["not_found"] if is_found(case["pattern"], text)] == []


def test_the_corpus_is_large_enough_to_say_something() -> None:
    """Both verdicts, many times."""
    assert len(VALID) >= 100
    assert len(INVALID) >= 100
