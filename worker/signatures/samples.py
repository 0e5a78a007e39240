"""Make up values that satisfy a signature: always the same ones for the same seed.

The offline language model answers with them, so that a team can wire everything up before it has a key.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import Decimal

from worker.signatures.nodes import Type, exact_fraction, float_range, identity, item_type, pair_types
from worker.signatures.pattern_samples import read_pattern
from worker.signatures.signature import Field, Signature
from worker.signatures.values import Faults, check_value

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "lotus")
_USUAL_LENGTH = 24
_USUAL_ITEMS = 2
_USUAL_SPAN = 100
_MAX_PARTS = 200_000
_MAX_TRIES = 200
_FEW_TRIES = 4
_PARTS_OF_A_TRY = 20
_NO_EXAMPLE = "no example was found that satisfies all its constraints"


def sample_outputs(signature: Signature, *, seed: str) -> dict[str, object]:
    """Return one valid value for each output, wire name → value.

    Args:
        signature: What to answer.
        seed: The same seed gives the same values, in every process.

    Raises:
        ValueError: For the field that the message names no value can be made up: the least one allowed is larger than
            200,000 characters or items, its pattern has parts that no example is made for, or no example was found.
    """
    sampler = _Sampler(random.Random(f"{seed}\0{signature.fingerprint}"))  # noqa: S311 - no secret is made here
    return {one.name: _sample_field(sampler, one) for one in signature.outputs}


def _sample_field(sampler: _Sampler, one: Field) -> object:
    try:
        value = sampler.sample(one.type)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Field {one.name}: {error}") from error
    faults: Faults = []
    taken = check_value(value, one.type, faults=faults)
    if faults:
        raise ValueError(f"Field {one.name}: {_NO_EXAMPLE}; the nearest one {faults[0][1]}")
    return taken


class _Sampler:
    """A source of random values that stops before it fills the memory."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._parts_left = _MAX_PARTS

    def sample(self, node: Type) -> object:
        self._spend(1)
        if node.choices is not None:
            return self._source.choice(node.choices)
        if node.kind == "list":
            return self._sample_list(node)
        if node.kind == "dict":
            return self._sample_dict(node)
        if node.kind == "object":
            return {member.name: self.sample(member.type) for member in node.properties}
        if node.kind == "union":
            return self._sample_union(node)
        return self._sample_scalar(node)

    def _sample_union(self, node: Type) -> object:
        """Return a value of one member, of another one where none can be made up for the first."""
        first = self._source.choice(node.members)
        for member in (first, *node.members):
            try:
                return self.sample(member)
            except ValueError:
                continue
        raise ValueError(_NO_EXAMPLE)

    def _sample_scalar(self, node: Type) -> object:
        if node.kind == "integer":
            return self._sample_integer(node)
        if node.kind == "float":
            return self._sample_float(node)
        if node.kind == "boolean":
            return self._source.random() < 0.5
        return self._sample_string(node)

    def _sample_integer(self, node: Type) -> int:
        low, high = _span(node.minimum, node.maximum)
        if node.multiple_of is not None:
            return int(self._sample_multiple(node, node.minimum, node.maximum))
        return self._source.randint(int(low), int(high))

    def _sample_float(self, node: Type) -> float:
        low, high = float_range(node)
        if node.multiple_of is not None:
            ends = (low if math.isfinite(low) else None, high if math.isfinite(high) else None)
            return float(self._sample_multiple(node, *ends))
        start, end = _span(low if math.isfinite(low) else None, high if math.isfinite(high) else None)
        drawn = start + (end - start) * self._source.random()
        fitting = (number for number in (round(drawn, 2), drawn) if math.isfinite(number) and low <= number <= high)
        return float(next(fitting, start))

    def _sample_multiple(self, node: Type, low: float | None, high: float | None) -> Decimal:
        """Return a multiple in decimals near the lower end, where floats are the most exact, or near zero."""
        step = exact_fraction(node.multiple_of or 1)
        first = None if low is None else math.ceil(exact_fraction(low) / step)
        last = None if high is None else math.floor(exact_fraction(high) / step)
        start, end = _multiples(first, last)
        written = Decimal(repr(node.multiple_of))
        for times in (self._source.randint(start, end), *range(start, min(end, start + _MAX_TRIES) + 1)):
            number = _times(written, times)
            if _is_taken(int(number) if node.kind == "integer" else float(number), node):
                return number
        raise ValueError(_NO_EXAMPLE)

    def _sample_string(self, node: Type) -> str:
        if node.pattern is None and node.format is None:
            return self._sample_text(node)
        make = read_pattern(node.pattern) if node.format is None and node.pattern is not None else self._formatted(node)
        for _ in range(_MAX_TRIES):
            text = make(self._source)
            self._spend(1 + len(text))
            for candidate in (text, self._padded(text, node)):
                # A text must not begin or end in a space, which readers of the prompt may strip.
                if candidate == candidate.strip() and _is_taken(candidate, node):
                    return candidate
        raise ValueError(_NO_EXAMPLE)

    def _formatted(self, node: Type) -> Callable[[random.Random], str]:
        return _FORMATTED[node.format or ""]

    def _padded(self, text: str, node: Type) -> str:
        missing = (node.min_length or 0) - len(text)
        if missing <= 0:
            return text
        self._spend(missing)
        return text + self._source.choice(_WORDS)[0] * missing

    def _sample_text(self, node: Type) -> str:
        length = _length(node, usual=_USUAL_LENGTH)
        self._spend(length)
        text = self._source.choice(_WORDS)
        while len(text) < (node.min_length or 0):
            text = f"{text} {self._source.choice(_WORDS)}"
        # A text must not end in a space, which readers of the prompt may strip.
        return text if node.max_length is None or len(text) <= node.max_length else _cut(text, node.max_length)

    def _sample_list(self, node: Type) -> list[object]:
        items, count = item_type(node), _length(node, usual=_USUAL_ITEMS)
        self._spend(count)
        if not node.is_unique:
            return [self.sample(items) for _ in range(count)]
        return self._sample_distinct(items, at_least=node.min_length or 0, count=count)

    def _sample_distinct(self, items: Type, *, at_least: int, count: int) -> list[object]:
        found: dict[object, object] = {}
        for choice in (items.choices or ())[:count]:
            found.setdefault(identity(choice), choice)
        tries = 0
        while len(found) < count and tries < (_FEW_TRIES if len(found) >= at_least else _MAX_TRIES * at_least):
            tries += 1
            # Lists of lists multiply their tries, so each one counts for many parts.
            self._spend(_PARTS_OF_A_TRY)
            value = self.sample(items)
            if identity(value) in found:
                value = _variant(value, len(found), items)
            found.setdefault(identity(value), value)
        if len(found) < at_least:
            raise ValueError(_NO_EXAMPLE)
        return list(found.values())

    def _sample_dict(self, node: Type) -> dict[str, object]:
        key, values = pair_types(node)
        least, most = node.min_length or 0, 1 if node.max_length is None else node.max_length
        count = max(least, min(1, most))
        self._spend(count)
        keys = self._sample_distinct(key, at_least=least, count=count)
        return {str(one): self.sample(values) for one in keys}

    def _spend(self, parts: int) -> None:
        self._parts_left -= parts
        if self._parts_left < 0:
            raise ValueError(f"a sample needs more than {_MAX_PARTS} characters or items")


def _is_taken(value: object, node: Type) -> bool:
    faults: Faults = []
    check_value(value, node, faults=faults)
    return not faults


def _variant(value: object, number: int, node: Type) -> object:
    """Return another value of the type where one is easily made: a few words are soon used up."""
    variants: tuple[object, ...] = ()
    if isinstance(value, str):
        variants = (f"{value}{number}", f"{value[: -len(str(number))]}{number}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        variants = (value + number,)
    return next((one for one in variants if _is_taken(one, node)), value)


def _multiples(first: int | None, last: int | None) -> tuple[int, int]:
    """Return a range of usual length within the one given, as near to zero as may be."""
    start = max(first, 0) if first is not None else 0
    if last is not None and last < start:
        start = last if first is None else max(first, last - _USUAL_SPAN)
    return start, start + _USUAL_SPAN if last is None else min(last, start + _USUAL_SPAN)


def _times(step: Decimal, times: int) -> Decimal:
    """Return an exact product: the context would round it to 28 digits."""
    sign, digits, exponent = step.as_tuple()
    product = times * int("".join(map(str, digits)))
    return Decimal((product < 0 or bool(sign), tuple(map(int, str(abs(product)))), int(exponent)))


def _two(source: random.Random, low: int, high: int) -> str:
    return f"{source.randint(low, high):02}"


def _make_date(source: random.Random) -> str:
    return f"20{_two(source, 0, 99)}-{_two(source, 1, 12)}-{_two(source, 1, 28)}"


def _make_time(source: random.Random) -> str:
    return f"{_two(source, 0, 23)}:{_two(source, 0, 59)}:{_two(source, 0, 59)}Z"


def _make_uuid(source: random.Random) -> str:
    digits = f"{source.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _make_word(source: random.Random) -> str:
    return source.choice(_WORDS)


# Addresses and names that are reserved for examples (RFC 2606, RFC 5737, RFC 3849).
_FORMATTED: dict[str, Callable[[random.Random], str]] = {
    "date": _make_date,
    "time": _make_time,
    "date-time": lambda source: f"{_make_date(source)}T{_make_time(source)}",
    "uuid": _make_uuid,
    "email": lambda source: f"{_make_word(source)}@example.com",
    "uri": lambda source: f"https://example.com/{_make_word(source)}",
    "ipv4": lambda source: f"192.0.2.{source.randint(1, 254)}",
    "ipv6": lambda source: f"2001:db8::{source.randint(1, 0xFFFF):x}",
}


def _span(low: float | None, high: float | None) -> tuple[float, float]:
    """Return both ends of a range, the missing ones a usual span away."""
    if low is not None:
        return low, low + _USUAL_SPAN if high is None else high
    return (0, _USUAL_SPAN) if high is None else (high - _USUAL_SPAN, high)


def _length(node: Type, *, usual: int) -> int:
    high = usual if node.max_length is None else min(usual, node.max_length)
    return max(high, node.min_length or 0)


def _cut(text: str, length: int) -> str:
    cut = text[:length]
    return f"{cut[:-1]}s" if cut.endswith(" ") else cut
