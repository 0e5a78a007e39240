"""How large a definition is, found out before anything in it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from worker.signatures.strict_json import MAX_JSON_DEPTH

MAX_DEFINITION_VALUES = 50_000
MAX_DEFINITION_CHARACTERS = 2_000_000


def fault_of_size(definition: Mapping[str, object]) -> str | None:
    """Return what is wrong with the size of a definition, or None.

    It may have 50,000 values and 2,000,000 characters, nested as deep as JSON may be. ``metadata`` is not looked at, since
    nothing reads it. The work is bounded by the limits, not by the definition.
    """
    level: list[object] = [value for key, value in definition.items() if key != "metadata"]
    values = characters = depth = 0
    while level:
        below: list[object] = []
        for value in level:
            characters += _characters(value)
            below += _parts(value)
        values += len(level)
        depth += 1
        if values + len(below) > MAX_DEFINITION_VALUES or characters > MAX_DEFINITION_CHARACTERS:
            return "the definition is too large"
        if depth > MAX_JSON_DEPTH:
            return "the definition is nested too deep"
        level = below
    return None


def count_values(value: object, *, most: float = math.inf) -> int:
    """Return how many JSON values a value is made of; counting stops once there are more than ``most``."""
    level, count = [value], 0
    while level and count <= most:
        count += len(level)
        below = sum([len(one) for one in level if isinstance(one, (dict, list))])
        if count + below > most:
            return count + below
        level = _below(level)
    return count


def has_long_text(value: object, *, most: int) -> bool:
    """Say whether a text of more than so many characters stands anywhere in a JSON value."""
    level = [value]
    while level:
        if [one for one in level if isinstance(one, str) and len(one) > most]:
            return True
        level = _below(level)
    return False


def _below(level: list[object]) -> list[object]:
    nested = [one for one in level if isinstance(one, (Mapping, list))]
    return [part for one in nested for part in _parts(one)]


def _parts(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _characters(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    return value.bit_length() // 3 if isinstance(value, int) else 0
