"""Check JSON values against types: strictly, in both directions, all faults at once.

Only an integer becomes a float, and a finite float without a fraction becomes an integer; a boolean is never a number,
text is never parsed. A union takes the first member that matches without such a change, else the first with one. A nested
object always comes out with all its members, an absent one as its default, else null, and takes no others.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

from worker.signatures.formats import has_format
from worker.signatures.nodes import Member, Type, exact_fraction, identity, item_type, pair_types, pointer_step
from worker.signatures.patterns import is_found
from worker.signatures.phrases import describe_choices, describe_length, describe_type, show_code, show_number
from worker.signatures.strict_json import is_unicode

MAX_FAULTS = 100
"""How many faults are gathered: a list of a million wrong items must not become a reply of a million problems."""

Faults = list[tuple[str, str]]
"""What is wrong, as (JSON pointer relative to the value checked, short phrase)."""

_MISSING = object()
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)")


def check_value(value: object, expected: Type, *, faults: Faults, is_exact: bool = False) -> object:
    """Return the value as its type has it, and add to ``faults`` what is wrong with it.

    Args:
        value: A JSON value.
        expected: Its type.
        faults: Added to; the returned value means nothing once something was added.
        is_exact: Refuse also the changes between integer and float; for the first pass over a union.
    """
    if value is None:
        if not expected.nullable:
            faults.append(("", "must not be null"))
        return None
    if expected.choices is not None:
        return _check_choice(value, expected, faults=faults, is_exact=is_exact)
    return _CHECKS[expected.kind](value, expected, faults, is_exact)


def _check_choice(value: object, expected: Type, *, faults: Faults, is_exact: bool) -> object:
    choice = expected.choice_index.get(identity(value), _MISSING)
    if choice is _MISSING and isinstance(value, (dict, list)):
        choice = expected.choice_index.get(identity(_completed(value, expected)), _MISSING)
    if choice is _MISSING or (is_exact and type(choice) is not type(value)):
        faults.append(("", f"must be one of: {describe_choices(expected)}"))
        return value
    return choice


def _completed(value: object, expected: Type) -> object:
    """Return a value with the absent members of its objects filled in, as in the choices."""
    faults: Faults = []
    taken = check_value(value, replace(expected, choices=None), faults=faults)
    return None if faults else taken


def _check_string(value: object, expected: Type, faults: Faults, _is_exact: bool) -> object:
    if not isinstance(value, str):
        faults.append(("", "must be a string"))
        return value
    if not is_unicode(value):
        faults.append(("", "must not contain lone surrogates"))
        return value
    _check_length(len(value), expected, faults, unit="characters")
    if expected.pattern is not None and not is_found(expected.pattern, value):
        faults.append(("", f"must match the pattern {show_code(expected.pattern)}"))
    if expected.format is not None and not has_format(value, expected.format):
        faults.append(("", f"must have the format {expected.format}"))
    return value


def _check_integer(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    number = _as_integer(value, is_exact=is_exact)
    if number is None:
        faults.append(("", "must be an integer"))
        return value
    _check_range(number, expected, faults)
    return number


def _check_float(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    number = _as_float(value, is_exact=is_exact)
    if number is None:
        faults.append(("", "must be a finite number"))
        return value
    _check_range(number, expected, faults)
    return number


def _check_boolean(value: object, _expected: Type, faults: Faults, _is_exact: bool) -> object:
    if not isinstance(value, bool):
        faults.append(("", "must be true or false"))
    return value


def _check_any(value: object, _expected: Type, faults: Faults, _is_exact: bool) -> object:
    if not _is_json(value):
        faults.append(("", "must be a JSON value"))
    return value


def _check_list(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    if not isinstance(value, list):
        faults.append(("", "must be a list"))
        return value
    items = item_type(expected)
    _check_length(len(value), expected, faults, unit="items")
    if expected.is_unique:
        _check_unique(value, faults)
    taken = []
    for index, item in enumerate(value):
        before = len(faults)
        taken.append(check_value(item, items, faults=faults, is_exact=is_exact))
        if len(faults) > before and _relocate(faults, before, index):
            break
    return taken


def _check_dict(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    if not isinstance(value, dict):
        faults.append(("", "must be an object"))
        return value
    key, values = pair_types(expected)
    _check_length(len(value), expected, faults, unit="entries")
    taken = {}
    for name, item in value.items():
        before = len(faults)
        _check_key(name, key, faults)
        taken[name] = check_value(item, values, faults=faults, is_exact=is_exact)
        if len(faults) > before and _relocate(faults, before, name):
            break
    return taken


def _check_object(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    if not isinstance(value, dict):
        faults.append(("", "must be an object"))
        return value
    given = _by_normal_name(value, expected)
    taken = {}
    for member in expected.properties:
        before = len(faults)
        taken[member.name] = _check_member(given.pop(member.name, _MISSING), member, faults, is_exact=is_exact)
        if len(faults) > before and _relocate(faults, before, member.name):
            return taken
    for name in list(given)[: MAX_FAULTS - len(faults)]:
        faults.append((pointer_step(name), "is no member of this object"))
    return taken


def _check_member(value: object, member: Member, faults: Faults, *, is_exact: bool) -> object:
    if value is None and not member.required and not member.type.nullable:
        value = _MISSING
    if value is not _MISSING:
        return check_value(value, member.type, faults=faults, is_exact=is_exact)
    if member.required:
        faults.append(("", "missing"))
    return deepcopy(member.default)


def _by_normal_name(value: dict[Any, object], expected: Type) -> dict[Any, object]:
    """Return the members by the names that the type has, which are in NFC."""
    names = {member.name for member in expected.properties}
    if value.keys() <= names:
        return dict(value)
    return {_normal(name): item for name, item in value.items()} | {
        name: item for name, item in value.items() if name in names
    }


def _normal(name: object) -> object:
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


def _check_key(name: object, expected: Type, faults: Faults) -> None:
    if not isinstance(name, str):
        faults.append(("", "must have a string as key"))
        return
    found: Faults = []
    key: object = name
    if expected.kind == "integer":
        key = _read_decimal(name)
    check_value(key, expected, faults=found, is_exact=True)
    faults.extend(("", f"key {phrase}") for _, phrase in found)


def _check_union(value: object, expected: Type, faults: Faults, is_exact: bool) -> object:
    for is_exact_pass in (True,) if is_exact else (True, False):
        for member in expected.members:
            found: Faults = []
            taken = check_value(value, member, faults=found, is_exact=is_exact_pass)
            if not found:
                return taken
    faults.append(("", f"must be {describe_type(expected)}"))
    return value


_CHECKS: dict[str, Callable[[object, Type, Faults, bool], object]] = {
    "string": _check_string,
    "integer": _check_integer,
    "float": _check_float,
    "boolean": _check_boolean,
    "any": _check_any,
    "list": _check_list,
    "dict": _check_dict,
    "object": _check_object,
    "union": _check_union,
}


def _as_integer(value: object, *, is_exact: bool) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and not is_exact and value.is_integer():
        return int(value)
    return None


def _as_float(value: object, *, is_exact: bool) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, int) or isinstance(value, bool) or is_exact:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _check_range(number: float, expected: Type, faults: Faults) -> None:
    if expected.minimum is not None and number < expected.minimum:
        faults.append(("", f"must be at least {show_number(expected.minimum)}"))
    if expected.maximum is not None and number > expected.maximum:
        faults.append(("", f"must be at most {show_number(expected.maximum)}"))
    if expected.exclusive_minimum is not None and number <= expected.exclusive_minimum:
        faults.append(("", f"must be greater than {show_number(expected.exclusive_minimum)}"))
    if expected.exclusive_maximum is not None and number >= expected.exclusive_maximum:
        faults.append(("", f"must be less than {show_number(expected.exclusive_maximum)}"))

    if expected.multiple_of is not None and not _is_multiple(number, expected.multiple_of):
        faults.append(("", f"must be a multiple of {show_number(expected.multiple_of)}"))


def _is_multiple(number: float, step: float) -> bool:
    if isinstance(number, int) and isinstance(step, int):
        return number % step == 0
    return (exact_fraction(number) / exact_fraction(step)).denominator == 1


def _check_unique(items: list[Any], faults: Faults) -> None:
    seen: dict[object, int] = {}
    for index, item in enumerate(items):
        first = seen.setdefault(identity(item), index)
        if first != index:
            faults.append(("", f"must have no item twice: {index} is the same as {first}"))
            return


def _check_length(length: int, expected: Type, faults: Faults, *, unit: str) -> None:
    is_short = expected.min_length is not None and length < expected.min_length
    is_long = expected.max_length is not None and length > expected.max_length
    if is_short or is_long:
        faults.append(("", f"must have {describe_length(expected)} {unit}, has {length}"))


def _relocate(faults: Faults, start: int, step: object) -> bool:
    """Put the faults from ``start`` on below one item; say whether there are enough of them to stop."""
    step_text = pointer_step(step)
    faults[start:] = [(step_text + pointer, phrase) for pointer, phrase in faults[start:]]
    return len(faults) >= MAX_FAULTS


def _read_decimal(text: str) -> object:
    try:
        return int(text) if _DECIMAL.fullmatch(text) else text
    except ValueError:
        return text


def _is_json(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return is_unicode(value)
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_unicode(name) and _is_json(item) for name, item in value.items())
    return value is None or isinstance(value, (bool, int))
