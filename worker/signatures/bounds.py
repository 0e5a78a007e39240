"""Put range, length and choices on a type, in canonical form.

Integer bounds become inclusive integers; of an inclusive and an exclusive float bound the tighter one stays; choices stand
for all other constraints, which each of them must satisfy.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

from worker.errors import DefinitionError, InvalidConstraintError
from worker.signatures.constraints import Given, Pair, not_enforced
from worker.signatures.nodes import Type, float_range, identity, nullable_of, union_of
from worker.signatures.phrases import describe_type
from worker.signatures.places import MAX_CHOICES, Place, quote
from worker.signatures.values import Faults, check_value

_RANGE: dict[str, tuple[str, ...]] = {
    name: (name,) for name in ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
}
_NUMBER = {**_RANGE, "min": ("minimum",), "max": ("maximum",)}
_STRING = {
    "min": ("min_length",),
    "max": ("max_length",),
    "min_length": ("min_length",),
    "max_length": ("max_length",),
    "length": ("min_length", "max_length"),
}
_LIST = {
    **_STRING,
    "min_items": ("min_length",),
    "max_items": ("max_length",),
    "dimensions": ("min_length", "max_length"),
}
_FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "integer": _NUMBER,
    "float": _NUMBER,
    "string": _STRING,
    "list": _LIST,
}
# The largest integer that every JSON parser reads exactly.
_MAX_COUNT = 2**53 - 1
_LOWEST = ("minimum", "exclusive_minimum", "min_length")


def constrain(node: Type, given: Given) -> Type:
    """Return the type with the bounds and choices put on it, in canonical form.

    On a union a bound goes to every member that it fits; choices stay with the union.

    Raises:
        InvalidConstraintError: A constraint does not fit the type, has a wrong value, contradicts another one, or leaves
            nothing.
    """
    choices = [pair for meaning, pair in given.bounds if meaning == "choices"]
    bounds = [(meaning, pair) for meaning, pair in given.bounds if meaning != "choices"]
    if bounds:
        node = _put(node, bounds)
    return _choose(node, choices) if choices else node


def _put(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    return _bound_members(node, bounds) if node.kind == "union" else _bound(node, bounds)


def _is_fitting(node: Type, meaning: str) -> bool:
    if node.kind == "union":
        return any(_is_fitting(member, meaning) for member in node.members)
    return meaning in _FITTING.get(node.kind, {})


def _bound_members(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    for meaning, pair in bounds:
        if meaning in ("min", "max") and any(member.kind == "dict" for member in node.members):
            raise not_enforced(pair)
        if not _is_fitting(node, meaning):
            raise _unfit(pair, node)
    members = []
    for member in node.members:
        fitting = [(meaning, pair) for meaning, pair in bounds if _is_fitting(member, meaning)]
        members.append(_put(member, fitting) if fitting else member)
    return _rebuilt(node, tuple(members), place=bounds[-1][1].place)


def _rebuilt(node: Type, members: tuple[Type, ...], *, place: Place) -> Type:
    bounded = union_of(members)
    for choice in node.choices or ():
        _require_fit(choice, bounded, place=place)
    if node.choices is not None:
        return node
    return nullable_of(bounded) if node.nullable else bounded


def _bound(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    limits: dict[str, float] = {}
    for meaning, pair in bounds:
        number = _read_number(pair) if meaning in _RANGE else None
        for name in _names(node, meaning, pair):
            limit = _read_limit(name, pair) if number is None else number
            if limits.setdefault(name, limit) != limit:
                raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} contradicts another constraint")
    return _tighten(node, limits, place=bounds[-1][1].place)


def _tighten(node: Type, limits: dict[str, float], *, place: Place) -> Type:
    tight: dict[str, Any] = {name: _tighter(name, limit, getattr(node, name)) for name, limit in limits.items()}
    bounded = _canonical(replace(node, choices=None, **tight), place=place)
    if _is_empty(bounded):
        raise place.fault(InvalidConstraintError, "the constraints contradict each other: no value is left")
    if node.choices is None:
        return bounded
    for choice in node.choices:
        _require_fit(choice, bounded, place=place)
    return node


def _names(node: Type, meaning: str, pair: Pair) -> tuple[str, ...]:
    if node.kind == "dict" and meaning in ("min", "max"):
        raise not_enforced(pair)
    names = _FITTING.get(node.kind, {}).get(meaning)
    if names is None:
        raise _unfit(pair, node)
    return names


def _read_limit(name: str, pair: Pair) -> float:
    return _read_count(pair) if name in ("min_length", "max_length") else _read_number(pair)


def _read_number(pair: Pair) -> float:
    value = pair.value
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if is_number and not isinstance(value, bool):
        return cast("float", value)
    raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a finite number")


def _read_count(pair: Pair) -> int:
    value = pair.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT and value % 1 == 0:
        return int(value)
    raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a whole number from 0 to {_MAX_COUNT}")


def _tighter(name: str, limit: float, known: float | None) -> float:
    if known is None:
        return limit
    return max(limit, known) if name in _LOWEST else min(limit, known)


def _canonical(node: Type, *, place: Place) -> Type:
    if node.kind == "integer":
        return _canonical_integer(node)
    if node.kind == "float":
        return _canonical_float(node, place=place)
    return replace(node, min_length=node.min_length or None)


def _canonical_integer(node: Type) -> Type:
    lows = [] if node.minimum is None else [math.ceil(node.minimum)]
    highs = [] if node.maximum is None else [math.floor(node.maximum)]
    if node.exclusive_minimum is not None:
        lows.append(math.floor(node.exclusive_minimum) + 1)
    if node.exclusive_maximum is not None:
        highs.append(math.ceil(node.exclusive_maximum) - 1)
    low, high = max(lows, default=None), min(highs, default=None)
    return replace(node, minimum=low, maximum=high, exclusive_minimum=None, exclusive_maximum=None)


def _canonical_float(node: Type, *, place: Place) -> Type:
    low, above = _as_float(node.minimum, place=place), _as_float(node.exclusive_minimum, place=place)
    high, below = _as_float(node.maximum, place=place), _as_float(node.exclusive_maximum, place=place)
    if low is not None and above is not None:
        low, above = (low, None) if low > above else (None, above)
    if high is not None and below is not None:
        high, below = (high, None) if high < below else (None, below)
    return replace(node, minimum=low, maximum=high, exclusive_minimum=above, exclusive_maximum=below)


def _as_float(bound: float | None, *, place: Place) -> float | None:
    try:
        # Adding 0.0 makes the two zeros one, so that they share a fingerprint.
        return None if bound is None else float(bound) + 0.0
    except OverflowError as error:
        raise place.fault(InvalidConstraintError, "a bound is out of the range of floats") from error


def _is_empty(node: Type) -> bool:
    if node.kind == "integer":
        return node.minimum is not None and node.maximum is not None and node.minimum > node.maximum
    if node.kind == "float":
        low, high = float_range(node)
        return low > high or low == math.inf or high == -math.inf
    return node.max_length is not None and (node.min_length or 0) > node.max_length


def _choose(node: Type, pairs: list[Pair]) -> Type:
    found = [_read_choices(node, pair) for pair in pairs]
    for pair, choices in zip(pairs, found, strict=True):
        if _identities(choices) != _identities(found[0]):
            raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} contradicts another constraint")
    has_null = any(None in pair.value for pair in pairs if isinstance(pair.value, list))
    return _with_choices(node, found[0], is_nullable=node.nullable and (node.kind != "any" or has_null))


def _with_choices(node: Type, choices: list[object], *, is_nullable: bool) -> Type:
    distinct: dict[object, object] = {}
    for choice in choices:
        distinct.setdefault(identity(choice), choice)
    children: dict[str, Any] = {name: getattr(node, name) for name in ("items", "key", "values", "members")}
    return Type(node.kind, nullable=is_nullable, choices=tuple(distinct.values()), **children)


def _read_choices(node: Type, pair: Pair) -> list[object]:
    if not isinstance(pair.value, list):
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a list")
    if len(pair.value) > MAX_CHOICES:
        reason = f"{quote(pair.key)} has more than {MAX_CHOICES} choices"
        raise pair.place.fault(InvalidConstraintError, reason, breaks_limit=True)
    taken = []
    for index, choice in enumerate(pair.value):
        value = _require_fit(choice, node, place=pair.place.at(index))
        if value is not None:
            taken.append(value)
    if not taken:
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} leaves no choice")
    return taken


def _require_fit(choice: object, node: Type, *, place: Place) -> object:
    faults: Faults = []
    value = check_value(choice, node, faults=faults)
    if faults:
        reason = f"a choice does not fit the type ({describe_type(node)}): {faults[0][1]}"
        raise place.fault(InvalidConstraintError, reason)
    return value


def _identities(choices: list[object]) -> set[object]:
    return {identity(choice) for choice in choices}


def _unfit(pair: Pair, node: Type) -> DefinitionError:
    return pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} does not fit the type ({describe_type(node)})")
