"""Check numbers: which values count as one, and their bounds and multiples."""

from __future__ import annotations

import math
from decimal import Context, Decimal

from worker.signatures.nodes import Type, exact_fraction
from worker.signatures.phrases import show_number
from worker.signatures.work import MULTIPLE_UNITS, Work

# Enough digits for any float over any step that a definition may have.
_CONTEXT = Context(prec=1_000)
_MAX_DECIMAL_BITS = 1_024
_BITS_A_UNIT = 16


def as_integer(value: object, *, is_exact: bool) -> int | None:
    """Return the integer that a value is, or None; a whole float is one unless ``is_exact``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and not is_exact and value.is_integer():
        return int(value)
    return None


def as_float(value: object, *, is_exact: bool) -> float | None:
    """Return the finite float that a value is, or None; an integer is one unless ``is_exact``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, int) or isinstance(value, bool) or is_exact:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def range_faults(number: float, expected: Type, *, work: Work) -> list[str]:
    """Return what is wrong with a number of a type, as phrases.

    Raises:
        WorkSpentError: It is too much to find out.
    """
    faults = []
    if expected.minimum is not None and number < expected.minimum:
        faults.append(f"must be at least {show_number(expected.minimum)}")
    if expected.maximum is not None and number > expected.maximum:
        faults.append(f"must be at most {show_number(expected.maximum)}")
    if expected.exclusive_minimum is not None and number <= expected.exclusive_minimum:
        faults.append(f"must be greater than {show_number(expected.exclusive_minimum)}")
    if expected.exclusive_maximum is not None and number >= expected.exclusive_maximum:
        faults.append(f"must be less than {show_number(expected.exclusive_maximum)}")

    if expected.multiple_of is not None and not _is_multiple(number, expected.multiple_of, work=work):
        faults.append(f"must be a multiple of {show_number(expected.multiple_of)}")
    return faults


def _is_multiple(number: float, step: float, *, work: Work) -> bool:
    bits = number.bit_length() if isinstance(number, int) else 0
    work.pay(MULTIPLE_UNITS + bits // _BITS_A_UNIT)
    if isinstance(number, int) and isinstance(step, int):
        return number % step == 0
    if bits > _MAX_DECIMAL_BITS:
        return (exact_fraction(number) / exact_fraction(step)).denominator == 1
    return _CONTEXT.remainder(Decimal(repr(number)), Decimal(repr(step))) == 0
