"""Read JSON text strictly: no NaN, no infinity, no duplicate keys, no lone surrogates, no endless nesting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import NoReturn

MAX_JSON_DEPTH = 64
"""How many arrays and objects may stand inside each other, so that no later step over the value runs out of stack."""


def read_json(text: str) -> object:
    """Return the value that a JSON text spells.

    Integers keep all their digits, unlike in parsers that turn large ones into floats.

    Raises:
        ValueError: The text is not strict JSON.
    """
    try:
        value: object = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if _is_deep(text, value):
        raise ValueError("nested too deep")
    if "\\u" in text:
        require_unicode(value)
    return value


def is_unicode(text: str) -> bool:
    """Say whether a text can be written as UTF-8, which a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_json(value: object) -> bool:
    """Say whether a value is one of JSON: finite numbers, texts that can be written, and so on all the way down."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_unicode(name) and is_json(item) for name, item in value.items())
    return value is None or isinstance(value, (bool, int))


def require_unicode(value: object) -> None:
    """Accept a JSON value whose texts can all be written as UTF-8.

    Raises:
        ValueError: One of them has a lone surrogate.
    """
    if not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise ValueError("lone surrogate")


def _is_deep(text: str, value: object) -> bool:
    if text.count("[") + text.count("{") <= MAX_JSON_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [child for one in level for child in _children(one)]
    return bool(level)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_read_object, parse_float=_read_float, parse_constant=_refuse_constant, strict=True
)
