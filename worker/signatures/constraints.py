"""Read constraints in all their spellings and sort them by meaning.

| meaning | keys |
|---|---|
| presence | ``required`` ``optional`` ``default`` |
| range | ``minimum min_value ge gte gteq`` · ``maximum max_value le lte lteq`` · ``gt exclusive_minimum`` · ``lt exclusive_maximum`` · ``multiple_of`` |
| by type | ``min`` ``max``: range for numbers, length for strings, items for lists, properties for maps |
| length | ``min_length max_length length`` · ``min_items max_items unique_items dimensions`` · ``min_properties max_properties`` |
| text | ``pattern`` · ``format``: a name, or ``/regex/``, which is a pattern |
| choice | ``enum one_of choices in`` |
| words | ``description`` |

camelCase names are aliases. One meaning given twice alike is one; given twice differently it is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.errors import InvalidConstraintError
from worker.signatures.formats import FORMATS
from worker.signatures.nodes import identity
from worker.signatures.places import Place, quote
from worker.suggestions import did_you_mean

_MEANINGS: dict[str, str] = {
    **dict.fromkeys(("minimum", "min_value", "ge", "gte", "gteq"), "minimum"),
    **dict.fromkeys(("maximum", "max_value", "le", "lte", "lteq"), "maximum"),
    **dict.fromkeys(("gt", "exclusive_minimum"), "exclusive_minimum"),
    **dict.fromkeys(("lt", "exclusive_maximum"), "exclusive_maximum"),
    **dict.fromkeys(("enum", "one_of", "choices", "in"), "choices"),
    **{name: name for name in ("min", "max", "min_length", "max_length", "length")},
    **{name: name for name in ("min_items", "max_items", "dimensions", "unique_items")},
    **{name: name for name in ("min_properties", "max_properties", "multiple_of", "pattern", "format")},
    **{name: name for name in ("required", "optional", "default", "description")},
}
_WORDS = ("required", "optional", "default", "description")
_ANNOTATIONS = frozenset(("title", "$schema", "$id", "$comment", "example", "examples"))

# They say what the type is, so they must not be taken for something unknown that has no effect.
_MISPLACED = frozenset(("properties", "items", "additional_properties"))

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
    return _MEANINGS.get(key) or _MEANINGS.get(_snake(key))


def read_pairs(constraints: object, *, place: Place) -> list[Pair]:
    """Return constraints that were sent as an object, a list of pairs or ``[]``.

    Raises:
        InvalidConstraintError: They have another shape.
    """
    if constraints is None:
        return []
    if isinstance(constraints, (Mapping, list)):
        place.require_constraints(len(constraints))
    if isinstance(constraints, Mapping):
        return [Pair(str(key), value, place.at(key)) for key, value in constraints.items()]
    if isinstance(constraints, list) and all(_is_pair(one) for one in constraints):
        return [Pair(key, value, place.at(key)) for key, value in constraints]
    raise place.fault(InvalidConstraintError, "constraints must be an object or a list of pairs")


def sort_pairs(pairs: Iterable[Pair]) -> Given:
    """Return the constraints by meaning; what is unknown is kept and warned about.

    Raises:
        InvalidConstraintError: One of them belongs in the type.
    """
    given = Given()
    for pair in pairs:
        _sort(pair, given)
    return given


def _sort(pair: Pair, given: Given) -> None:
    meaning = meaning_of(pair.key)
    if meaning == "format":
        meaning, pair = _read_format(pair)
    if meaning in _WORDS:
        given.words.setdefault(meaning, []).append(pair)
    elif meaning is not None:
        given.bounds.append((meaning, pair))
    elif pair.key not in _ANNOTATIONS:
        _keep_unknown(pair, given)


def _read_format(pair: Pair) -> tuple[str | None, Pair]:
    """Return what a format means: a known name, a pattern between slashes, or nothing that is known."""
    name = pair.value
    if not isinstance(name, str):
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a string")
    if len(name) > 2 and name.startswith("/") and name.endswith("/"):
        return "pattern", Pair(pair.key, name[1:-1], pair.place)
    normal = name.lower().replace("_", "-")
    return ("format", Pair(pair.key, normal, pair.place)) if normal in FORMATS else (None, pair)


def _keep_unknown(pair: Pair, given: Given) -> None:
    if _snake(pair.key) in _MISPLACED:
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} stands in the type, not in its constraints")
    given.unknown[pair.key] = pair.value
    if _snake(pair.key) == "format":
        what, word, known = f"format {quote(pair.value)}", str(pair.value), tuple(FORMATS)
    else:
        what, word, known = f"constraint {quote(pair.key)}", _snake(pair.key), tuple(_MEANINGS)
    near = did_you_mean(word, known, cutoff=0.8) if pair.place.has_room_for_advice else ""
    pair.place.warn(f"unknown {what} is kept and not enforced{near}")


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


def _is_alike(one: object, other: object) -> bool:
    return identity(one) == identity(other)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)


def _snake(key: str) -> str:
    return _CAMEL.sub("_", key).lower()
