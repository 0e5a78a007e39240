"""Put ranges, lengths, patterns and formats on a type, in canonical form.

Integer bounds become inclusive integers; of an inclusive and an exclusive float bound the tighter one stays; choices stand
for all other constraints, which each of them must satisfy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from worker.errors import DefinitionError, InvalidConstraintError
from worker.signatures.choices import choose, require_fits
from worker.signatures.constraints import Given, Pair
from worker.signatures.nodes import Type, exact_fraction, float_range, item_type, nullable_of, union_of
from worker.signatures.patterns import compile_pattern, cost_of
from worker.signatures.phrases import describe_type
from worker.signatures.places import MAX_MULTIPLE_EXPONENT, MAX_PATTERN_CHARACTERS, Place, quote
from worker.signatures.strict_json import is_unicode

_Limit = float | str

_RANGE: dict[str, tuple[str, ...]] = {
    name: (name,) for name in ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum")
}
_NUMBER = {**_RANGE, "min": ("minimum",), "max": ("maximum",), "multiple_of": ("multiple_of",)}
_LENGTH = {
    "min": ("min_length",),
    "max": ("max_length",),
    "min_length": ("min_length",),
    "max_length": ("max_length",),
    "length": ("min_length", "max_length"),
}
_STRING = {**_LENGTH, "pattern": ("pattern",), "format": ("format",)}
_LIST = {
    **_LENGTH,
    "min_items": ("min_length",),
    "max_items": ("max_length",),
    "dimensions": ("min_length", "max_length"),
    "unique_items": ("is_unique",),
}
_DICT: dict[str, tuple[str, ...]] = {
    "min": ("min_length",),
    "max": ("max_length",),
    "min_properties": ("min_length",),
    "max_properties": ("max_length",),
}
_FITTING: dict[str, dict[str, tuple[str, ...]]] = {
    "integer": _NUMBER,
    "float": _NUMBER,
    "string": _STRING,
    "list": _LIST,
    "dict": _DICT,
}
# The largest integer that every JSON parser reads exactly.
_MAX_COUNT = 2**53 - 1
_EXACT = ("multiple_of", "pattern", "format")
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
    return choose(node, choices) if choices else node


def _put(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    return _bound_members(node, bounds) if node.kind == "union" else _bound(node, bounds)


def _is_fitting(node: Type, meaning: str) -> bool:
    if node.kind == "union":
        return any(_is_fitting(member, meaning) for member in node.members)
    return meaning in _FITTING.get(node.kind, {})


def _bound_members(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    for meaning, pair in bounds:
        if not _is_fitting(node, meaning):
            raise _unfit(pair, node)
    members = []
    for member in node.members:
        fitting = [(meaning, pair) for meaning, pair in bounds if _is_fitting(member, meaning)]
        members.append(_put(member, fitting) if fitting else member)
    return _rebuilt(node, tuple(members), place=bounds[-1][1].place)


def _rebuilt(node: Type, members: tuple[Type, ...], *, place: Place) -> Type:
    bounded = union_of(members)
    if node.choices is not None:
        require_fits(node.choices, bounded, place=place)
        return node
    return nullable_of(bounded) if node.nullable else bounded


def _bound(node: Type, bounds: list[tuple[str, Pair]]) -> Type:
    limits: dict[str, _Limit] = {}
    for meaning, pair in bounds:
        number = _read_number(pair) if meaning in _RANGE else None
        for name in _names(node, meaning, pair):
            limit = _read_limit(name, pair) if number is None else number
            if limits.setdefault(name, limit) != limit:
                raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} contradicts another constraint")
    return _tighten(node, limits, place=bounds[-1][1].place)


def _tighten(node: Type, limits: dict[str, _Limit], *, place: Place) -> Type:
    tight: dict[str, Any] = {
        name: _tighter(name, limit, getattr(node, name), place=place) for name, limit in limits.items()
    }
    bounded = _canonical(replace(node, choices=None, **tight), place=place)
    if _is_empty(bounded):
        raise place.fault(InvalidConstraintError, "the constraints contradict each other: no value is left")
    if node.choices is None:
        return bounded
    require_fits(node.choices, bounded, place=place)
    return node


def _names(node: Type, meaning: str, pair: Pair) -> tuple[str, ...]:
    names = _FITTING.get(node.kind, {}).get(meaning)
    if names is None:
        raise _unfit(pair, node)
    return names


def _read_limit(name: str, pair: Pair) -> _Limit:
    return _READERS[name](pair)


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


def _read_multiple(pair: Pair) -> float:
    step = _read_number(pair)
    if step <= 0:
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be greater than 0")
    if not 10**-MAX_MULTIPLE_EXPONENT <= step <= 10**MAX_MULTIPLE_EXPONENT:
        reason = f"{quote(pair.key)} must be from 1e-{MAX_MULTIPLE_EXPONENT} to 1e{MAX_MULTIPLE_EXPONENT}"
        raise pair.place.fault(InvalidConstraintError, reason)
    return step


def _read_truth(pair: Pair) -> bool:
    if not isinstance(pair.value, bool):
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be true or false")
    return pair.value


def _read_format(pair: Pair) -> str:
    return str(pair.value)


def _read_pattern(pair: Pair) -> str:
    pattern, place = pair.value, pair.place
    if not isinstance(pattern, str) or not is_unicode(pattern):
        raise place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a string")
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        reason = f"{quote(pair.key)} is longer than {MAX_PATTERN_CHARACTERS} characters"
        raise place.fault(InvalidConstraintError, reason, breaks_limit=True)
    if not place.budget.can_pay(pattern, cost=cost_of(pattern)):
        reason = f"{quote(pair.key)} is too large: use fewer repetitions, or smaller classes such as [a-z]"
        raise place.fault(InvalidConstraintError, reason, breaks_limit=True)
    try:
        compile_pattern(pattern)
    except ValueError as error:
        reason = f"{quote(pair.key)} is refused: {error}"
        raise place.fault(InvalidConstraintError, reason, breaks_limit=True) from None
    return pattern


_READERS: dict[str, Callable[[Pair], _Limit]] = {
    **dict.fromkeys(_RANGE, _read_number),
    "min_length": _read_count,
    "max_length": _read_count,
    "multiple_of": _read_multiple,
    "is_unique": _read_truth,
    "pattern": _read_pattern,
    "format": _read_format,
}


def _tighter(name: str, limit: Any, known: Any, *, place: Place) -> _Limit:
    if known is None or known is False or known == limit:
        return cast("_Limit", limit)
    if name in _EXACT:
        raise place.fault(InvalidConstraintError, f"{quote(name)} contradicts the one that a type already has")
    if name == "is_unique":
        return True
    return cast("_Limit", max(limit, known) if name in _LOWEST else min(limit, known))


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
    step = None if node.multiple_of is None else exact_fraction(node.multiple_of).numerator
    whole: Any = {"minimum": low, "maximum": high, "multiple_of": None if step == 1 else step}
    return replace(node, exclusive_minimum=None, exclusive_maximum=None, **whole)


def _canonical_float(node: Type, *, place: Place) -> Type:
    low, above = _as_float(node.minimum, place=place), _as_float(node.exclusive_minimum, place=place)
    high, below = _as_float(node.maximum, place=place), _as_float(node.exclusive_maximum, place=place)
    if low is not None and above is not None:
        low, above = (low, None) if low > above else (None, above)
    if high is not None and below is not None:
        high, below = (high, None) if high < below else (None, below)
    tight: Any = {"minimum": low, "maximum": high, "exclusive_minimum": above, "exclusive_maximum": below}
    return replace(node, multiple_of=_as_float(node.multiple_of, place=place), **tight)


def _as_float(bound: float | None, *, place: Place) -> float | None:
    try:
        # Adding 0.0 makes the two zeros one, so that they share a fingerprint.
        return None if bound is None else float(bound) + 0.0
    except OverflowError as error:
        raise place.fault(InvalidConstraintError, "a bound is out of the range of floats") from error


def _is_empty(node: Type) -> bool:
    if node.kind == "integer":
        low, high = (-math.inf if node.minimum is None else node.minimum), node.maximum
        return (high is not None and low > high) or not _has_multiple(node, low, high)
    if node.kind == "float":
        low, high = float_range(node)
        return low > high or low == math.inf or high == -math.inf or not _has_multiple(node, low, high)
    shortest = node.min_length or 0
    if node.is_unique and shortest > _most_distinct(item_type(node)):
        return True
    return node.max_length is not None and shortest > node.max_length


def _has_multiple(node: Type, low: float, high: float | None) -> bool:
    is_open = high is None or high == math.inf or low == -math.inf
    if node.multiple_of is None or is_open:
        return True
    step = exact_fraction(node.multiple_of)
    return math.ceil(exact_fraction(low) / step) * step <= exact_fraction(cast("float", high))


def _most_distinct(node: Type) -> float:
    """Return how many different values a type has, as far as that is plain to see."""
    if node.choices is not None:
        return len(node.choices) + node.nullable
    return 2 + node.nullable if node.kind == "boolean" else math.inf


def _unfit(pair: Pair, node: Type) -> DefinitionError:
    return pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} does not fit the type ({describe_type(node)})")
