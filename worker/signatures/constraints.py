"""Read constraints in all their spellings and sort them by meaning.

| meaning | keys |
|---|---|
| presence | ``required`` ``optional`` ``default`` |
| range | ``minimum min_value ge gte gteq`` · ``maximum max_value le lte lteq`` · ``gt exclusive_minimum`` · ``lt exclusive_maximum`` |
| by type | ``min`` ``max``: range for numbers, length for strings, items for lists |
| length | ``min_length max_length length`` · ``min_items max_items dimensions`` |
| choice | ``enum one_of choices in`` |
| words | ``description`` |

camelCase names are aliases. One meaning given twice alike is one; given twice differently it is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.errors import DefinitionError, InvalidConstraintError
from worker.signatures.nodes import identity
from worker.signatures.places import Place, quote

_MEANINGS: dict[str, str] = {
    **dict.fromkeys(("minimum", "min_value", "ge", "gte", "gteq"), "minimum"),
    **dict.fromkeys(("maximum", "max_value", "le", "lte", "lteq"), "maximum"),
    **dict.fromkeys(("gt", "exclusive_minimum"), "exclusive_minimum"),
    **dict.fromkeys(("lt", "exclusive_maximum"), "exclusive_maximum"),
    **dict.fromkeys(("enum", "one_of", "choices", "in"), "choices"),
    **{name: name for name in ("min", "max", "min_length", "max_length", "length")},
    **{name: name for name in ("min_items", "max_items", "dimensions")},
    **{name: name for name in ("required", "optional", "default", "description")},
}
_NOT_ENFORCED = frozenset(
    ("pattern", "format", "multiple_of", "unique_items", "min_properties", "max_properties", "properties")
)
_WORDS = ("required", "optional", "default", "description")
_ANNOTATIONS = frozenset(("title", "$schema", "$id", "$comment", "example", "examples"))

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Pair:
    """One constraint as sent: its key, its value, and where it stands."""

    key: str
    value: object
    place: Place


@dataclass(slots=True)
class Given:
    """The constraints of one type, sorted by meaning.

    Attributes:
        bounds: Pairs that limit the value, each with its meaning, e.g. ``minimum``, ``min`` or ``choices``.
        words: ``required``, ``optional``, ``default`` and ``description`` → the pairs that give them.
        unknown: Key as sent → value.
    """

    bounds: list[tuple[str, Pair]] = field(default_factory=list)
    words: dict[str, list[Pair]] = field(default_factory=dict)
    unknown: dict[str, object] = field(default_factory=dict)


def meaning_of(key: str) -> str | None:
    """Return what a constraint's key means, or None if it is unknown; ``minLength`` means ``min_length``."""
    snake = _snake(key)
    return snake if snake in _NOT_ENFORCED else _MEANINGS.get(snake)


def read_pairs(constraints: object, *, place: Place) -> list[Pair]:
    """Return constraints that were sent as an object, a list of pairs or ``[]``.

    Raises:
        InvalidConstraintError: They have another shape.
    """
    if constraints is None:
        return []
    if isinstance(constraints, Mapping):
        return [Pair(str(key), value, place.at(key)) for key, value in constraints.items()]
    if isinstance(constraints, list) and all(_is_pair(one) for one in constraints):
        return [Pair(key, value, place.at(key)) for key, value in constraints]
    raise place.fault(InvalidConstraintError, "constraints must be an object or a list of pairs")


def sort_pairs(pairs: Iterable[Pair]) -> Given:
    """Return the constraints by meaning.

    Raises:
        InvalidConstraintError: One of them is known and cannot be enforced here; such a one is never ignored, whatever the
            fallback policy.
    """
    given = Given()
    for pair in pairs:
        meaning = meaning_of(pair.key)
        if meaning in _NOT_ENFORCED:
            raise not_enforced(pair)
        if meaning in _WORDS:
            given.words.setdefault(meaning, []).append(pair)
        elif meaning is not None:
            given.bounds.append((meaning, pair))
        elif pair.key not in _ANNOTATIONS:
            given.unknown[pair.key] = pair.value
            pair.place.warn(f"unknown constraint {quote(pair.key)} is kept and not enforced")
    return given


def agreed_word(given: Given, word: str) -> Pair | None:
    """Return the pair that gives a word such as ``default``, or None.

    Raises:
        InvalidConstraintError: It is given twice, differently.
    """
    pairs = given.words.get(word, [])
    for other in pairs[1:]:
        if not _is_alike(other.value, pairs[0].value):
            raise other.place.fault(InvalidConstraintError, f"{quote(word)} is given twice, differently")
    return pairs[0] if pairs else None


def not_enforced(pair: Pair) -> DefinitionError:
    """Return the refusal of a constraint that is known and that nothing here enforces."""
    reason = f"{quote(pair.key)} is not supported yet, and is never ignored"
    return pair.place.fault(InvalidConstraintError, reason, breaks_limit=True)


def _is_alike(one: object, other: object) -> bool:
    return identity(one) == identity(other)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)


def _snake(key: str) -> str:
    return _CAMEL.sub("_", key).lower()
