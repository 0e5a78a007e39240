"""The pages' tables of types, constraints, formats and limits say what the code does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.pages import quoted, read, table
from worker.settings import Settings
from worker.signatures import Type, parse
from worker.signatures.constraints import _MEANINGS
from worker.signatures.formats import FORMATS, MAX_FORMAT_CHARACTERS, has_format
from worker.signatures.patterns import cost_of
from worker.signatures.places import (
    MAX_CHECKS,
    MAX_CHOICES,
    MAX_CONSTRAINTS,
    MAX_DEFINITION_WORK,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_MEMBERS,
    MAX_NAME_CHARACTERS,
    MAX_PATTERN_CHARACTERS,
    MAX_PATTERN_COST,
    MAX_TEXT_CHARACTERS,
    MAX_TYPES,
    MAX_VALUE_CHARACTERS,
)
from worker.signatures.sizes import MAX_DEFINITION_CHARACTERS, MAX_DEFINITION_VALUES
from worker.signatures.strict_json import MAX_JSON_DEPTH
from worker.signatures.values import Faults, check_value
from worker.signatures.words import ACCEPTED, is_null_word
from worker.signatures.work import MAX_WORK

WIRE, GUIDE = "docs/WIRE.md", "docs/DYNAMIC_SIGNATURES.md"


def type_of(spelling: Any, **constraints: Any) -> Type:
    one = {"name": "a", "type": spelling, "constraints": constraints}
    return parse({"inputs": [one], "outputs": [{"name": "b"}]}).inputs[0].type


def faults_of(value: Any, expected: Type) -> Faults:
    faults: Faults = []
    check_value(value, expected, faults=faults)
    return faults


def only(cell: str) -> str:
    [text] = quoted(cell)
    return text


def test_the_type_table_has_every_word_and_each_row_is_one_type() -> None:
    """All spellings of a row mean the same, and every word that the parser takes is on the page."""
    words = set()
    for canonical, also, _ in table(WIRE, "Type", "Also", "Value"):
        for spelling in quoted(also):
            assert written(spelling) == written(only(canonical)), spelling
        words |= {word.lower() for word in re.findall(r"\w+", canonical + also)}

    assert {word for word in ACCEPTED if not is_null_word(word)} <= words


def written(spelling: str) -> Type:
    return type_of(json.loads(spelling) if spelling[0] in "[{" else spelling)


def test_the_constraint_table_has_every_key() -> None:
    """What is enforced, by name."""
    keys = {key for row in table(WIRE, "Meaning", "Keys") for key in quoted(row[1])}

    assert set(_MEANINGS) == keys


def test_the_format_table_has_every_format_with_a_text_that_has_it() -> None:
    """No format is enforced that the page does not show."""
    examples = {only(name): only(text) for name, text in table(WIRE, "Format", "For example")}

    assert [name for name, text in examples.items() if not has_format(text, name)] == []
    assert set(FORMATS) == set(examples)


def test_the_limits_are_those_of_the_code() -> None:
    """Each number of the page, and those in its prose."""
    rows = table(WIRE, "Limit", "At most")
    given = [int(limit.replace(",", "")) for _, limit in rows]
    costs = {pattern: int(cost) for row in rows for cost, pattern in re.findall(r"(\d+) for `([^`]+)`", row[0])}
    expected = [
        MAX_FIELDS,
        MAX_DEPTH,
        MAX_NAME_CHARACTERS,
        MAX_TEXT_CHARACTERS,
        MAX_MEMBERS,
        MAX_TYPES,
        MAX_CHOICES,
        MAX_CHECKS,
        MAX_DEFINITION_WORK,
        MAX_VALUE_CHARACTERS,
        MAX_CONSTRAINTS,
        MAX_PATTERN_CHARACTERS,
        MAX_PATTERN_COST,
        MAX_DEFINITION_VALUES,
        MAX_DEFINITION_CHARACTERS,
        MAX_JSON_DEPTH,
    ]
    assert f"{MAX_FORMAT_CHARACTERS:,}" in read(WIRE)
    assert f"{MAX_WORK:,} units" in read(WIRE)
    assert {pattern: cost_of(pattern) for pattern in costs} == costs

    assert expected == given


def test_the_table_of_structured_outputs_is_the_setting() -> None:
    """Each value that an alias may have."""
    field = Settings.model_fields["lm_structured_outputs"]
    rows = [only(row[0]) for row in table(WIRE, "Structured outputs", "How the model is asked")]

    assert set(field.annotation.__args__) == set(rows)  # type: ignore[union-attr]


@pytest.mark.parametrize("row", table(GUIDE, "Elixir", "In a definition", "A value", "Refused"), ids=lambda row: row[1])
def test_each_type_of_the_guide_takes_its_value_and_no_other(row: list[str]) -> None:
    """In JSON's spelling and, as an encoded tuple, in Elixir's."""
    elixir, spelling, value, refused = row
    expected = type_of(json.loads(only(spelling)))

    assert faults_of(json.loads(only(value)), expected) == []
    assert refused == "–" or faults_of(json.loads(only(refused)), expected) != []
    assert elixir == "–" or type_of(encoded(only(elixir))) == expected


def encoded(elixir: str) -> Any:
    """Return an Elixir type as JSON encoders write it: atoms are strings, tuples are arrays."""
    return json.loads(re.sub(r":(\w+)", r'"\1"', elixir).replace("{", "[").replace("}", "]"))


@pytest.mark.parametrize("row", table(GUIDE, "Constraints", "On", "A value", "Refused"), ids=lambda row: row[0])
def test_each_constraint_of_the_guide_takes_its_value_and_no_other(row: list[str]) -> None:
    """And the value refused would do without it."""
    constraints, spelling, value, refused = (json.loads(only(cell)) for cell in row)
    bounded = type_of(spelling, **constraints)

    assert faults_of(value, bounded) == []
    assert faults_of(refused, bounded) != []
    assert faults_of(refused, type_of(spelling)) == []
