"""Check JSON values against types: strictly, in both directions, all faults at once.

Only an integer becomes a float, and a finite float without a fraction becomes an integer; a boolean is never a number,
text is never parsed. A union takes the first member that matches without such a change, else the first with one. A nested
object always comes out with all its members, an absent one as its default, else null, and takes no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from worker.signatures.formats import has_format
from worker.signatures.nodes import Member, Type, identity, item_type, pair_types, pointer_step
from worker.signatures.patterns import count_positions, is_found
from worker.signatures.phrases import describe_choices, describe_length, describe_type, show_code
from worker.signatures.possible import normal_key, possible_members
from worker.signatures.ranges import as_float, as_integer, range_faults
from worker.signatures.sizes import count_values
from worker.signatures.strict_json import is_json, is_unicode
from worker.signatures.work import (
    COPY_UNITS,
    ENTRY_UNITS,
    FORMAT_UNITS,
    ITEM_UNITS,
    MEMBER_UNITS,
    TOO_LARGE,
    Work,
    WorkSpentError,
)

MAX_FAULTS = 100
"""How many faults are gathered: a list of a million wrong items must not become a reply of a million problems."""

Faults = list[tuple[str, str]]
"""What is wrong, as (JSON pointer relative to the value checked, short phrase)."""

_MISSING = object()
_CHARACTERS_A_UNIT = 32
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)")


def check_value(value: object, expected: Type, *, faults: Faults, work: Work | None = None) -> object:
    """Return the value as its type has it, and add to ``faults`` what is wrong with it.

    Args:
        value: A JSON value.
        expected: Its type.
        faults: Added to; the returned value means nothing once something was added.
        work: What may be done for the record that the value belongs to; by default, for this value alone. Where it does
            not suffice, that is the only fault.
    """
    before = len(faults)
    try:
        return _check(value, expected, faults, _Pass(Work() if work is None else work))
    except WorkSpentError:
        faults[before:] = [("", TOO_LARGE)]
        return value


@dataclass(slots=True)
class _Pass:
    """One pass over a value; an exact one, the first over a union, refuses the changes between integer and float too."""

    work: Work
    is_exact: bool = False


def _check(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    """Check one value that is paid for; what is inside it, and what is more than a look, is paid for here."""
    if value is None:
        if not expected.nullable:
            faults.append(("", "must not be null"))
        return None
    if expected.choices is not None:
        return _check_choice(value, expected, faults, run)
    return _CHECKS[expected.kind](value, expected, faults, run)


def _check_choice(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    _pay_for_parts(value, work=run.work, units=ENTRY_UNITS)
    choice = expected.choice_index.get(identity(value), _MISSING)
    if choice is _MISSING and isinstance(value, (dict, list)):
        choice = expected.choice_index.get(identity(_completed(value, expected, work=run.work)), _MISSING)
    if choice is _MISSING or (run.is_exact and type(choice) is not type(value)):
        faults.append(("", f"must be one of: {run.work.say(expected, describe_choices)}"))
        return value
    return choice


def _completed(value: object, expected: Type, *, work: Work) -> object:
    """Return a value with the absent members of its objects filled in, as in the choices."""
    work.pay(COPY_UNITS)
    faults: Faults = []
    taken = _check(value, replace(expected, choices=None), faults, _Pass(work))
    return None if faults else taken


def _pay_for_parts(value: object, *, work: Work, units: int) -> None:
    """Pay for a walk through all of a value."""
    if isinstance(value, (dict, list)):
        work.pay(units * count_values(value, most=work.left // units))


def _check_string(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    if not isinstance(value, str):
        faults.append(("", "must be a string"))
        return value
    run.work.pay_for_text(value)
    if not is_unicode(value):
        faults.append(("", "must not contain lone surrogates"))
        return value
    is_short_enough = expected.max_length is None or len(value) <= expected.max_length
    _check_length(len(value), expected, faults, unit="characters")
    if expected.pattern is not None and is_short_enough and not _matches(value, expected.pattern, work=run.work):
        faults.append(("", f"must match the pattern {show_code(expected.pattern)}"))
    if expected.format is not None and not _has_format(value, expected.format, work=run.work):
        faults.append(("", f"must have the format {expected.format}"))
    return value


def _matches(text: str, pattern: str, *, work: Work) -> bool:
    work.pay_for_pattern(text, positions=count_positions(pattern))
    return is_found(pattern, text)


def _has_format(text: str, name: str, *, work: Work) -> bool:
    work.pay(FORMAT_UNITS + len(text) // _CHARACTERS_A_UNIT)
    return has_format(text, name)


def _check_integer(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    number = as_integer(value, is_exact=run.is_exact)
    if number is None:
        faults.append(("", "must be an integer"))
        return value
    faults += [("", phrase) for phrase in range_faults(number, expected, work=run.work)]
    return number


def _check_float(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    number = as_float(value, is_exact=run.is_exact)
    if number is None:
        faults.append(("", "must be a finite number"))
        return value
    faults += [("", phrase) for phrase in range_faults(number, expected, work=run.work)]
    return number


def _check_boolean(value: object, _expected: Type, faults: Faults, _run: _Pass) -> object:
    if not isinstance(value, bool):
        faults.append(("", "must be true or false"))
    return value


def _check_any(value: object, _expected: Type, faults: Faults, run: _Pass) -> object:
    _pay_for_parts(value, work=run.work, units=ITEM_UNITS)
    if not is_json(value):
        faults.append(("", "must be a JSON value"))
    return value


def _check_list(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    if not isinstance(value, list):
        faults.append(("", "must be a list"))
        return value
    run.work.pay(1 + ITEM_UNITS * len(value))
    items = item_type(expected)
    _check_length(len(value), expected, faults, unit="items")
    if expected.is_unique:
        _check_unique(value, faults, work=run.work)
    taken = []
    for index, item in enumerate(value):
        before = len(faults)
        taken.append(_check(item, items, faults, run))
        if len(faults) > before and _relocate(faults, before, index):
            break
    return taken


def _check_dict(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    if not isinstance(value, dict):
        faults.append(("", "must be an object"))
        return value
    run.work.pay(1 + ENTRY_UNITS * len(value))
    key, values = pair_types(expected)
    _check_length(len(value), expected, faults, unit="entries")
    taken = {}
    for name, item in value.items():
        before = len(faults)
        _check_key(name, key, faults, work=run.work)
        taken[name] = _check(item, values, faults, run)
        if len(faults) > before and _relocate(faults, before, name):
            break
    return taken


def _check_object(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    if not isinstance(value, dict):
        faults.append(("", "must be an object"))
        return value
    run.work.pay(MEMBER_UNITS * (1 + len(expected.properties)) + len(value))
    given = _by_normal_name(value, expected)
    taken = {}
    for member in expected.properties:
        before = len(faults)
        taken[member.name] = _check_member(given.pop(member.name, _MISSING), member, faults, run)
        if len(faults) > before and _relocate(faults, before, member.name):
            return taken
    for name in list(given)[: MAX_FAULTS - len(faults)]:
        faults.append((pointer_step(name), "is no member of this object"))
    return taken


def _check_member(value: object, member: Member, faults: Faults, run: _Pass) -> object:
    if value is None and not member.required and not member.type.nullable:
        value = _MISSING
    if value is not _MISSING:
        return _check(value, member.type, faults, run)
    if member.required:
        faults.append(("", "missing"))
    _pay_for_parts(member.default, work=run.work, units=COPY_UNITS)
    return deepcopy(member.default)


def _by_normal_name(value: dict[Any, object], expected: Type) -> dict[Any, object]:
    """Return the members by the names that the type has, which are in NFC."""
    names = expected.member_names
    if value.keys() <= names:
        return dict(value)
    return {normal_key(name): item for name, item in value.items()} | {
        name: item for name, item in value.items() if name in names
    }


def _check_key(name: object, expected: Type, faults: Faults, *, work: Work) -> None:
    if not isinstance(name, str):
        faults.append(("", "must have a string as key"))
        return
    found: Faults = []
    key: object = name
    if expected.kind == "integer":
        key = _read_decimal(name)
    _check(key, expected, found, _Pass(work, is_exact=True))
    faults.extend(("", f"key {phrase}") for _, phrase in found)


def _check_union(value: object, expected: Type, faults: Faults, run: _Pass) -> object:
    members = possible_members(value, expected.members, work=run.work)
    exact = _Pass(run.work, is_exact=True)
    for one_pass in (exact,) if run.is_exact else (exact, run):
        for member in members:
            run.work.pay(MEMBER_UNITS)
            found: Faults = []
            taken = _check(value, member, found, one_pass)
            if not found:
                return taken
    faults.append(("", f"must be {run.work.say(expected, describe_type)}"))
    return value


_CHECKS: dict[str, Callable[[object, Type, Faults, _Pass], object]] = {
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


def _check_unique(items: list[Any], faults: Faults, *, work: Work) -> None:
    _pay_for_parts(items, work=work, units=ENTRY_UNITS)
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
