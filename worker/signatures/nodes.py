"""One type of a field, as a tree of nodes in canonical form.

Every spelling ends here: a probability is a float from 0 to 1, an embedding a list of floats, ``t | null`` a nullable
``t``. Two spellings that mean the same therefore compare equal, and so do the fingerprints built on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["string", "integer", "float", "boolean", "any", "list", "dict", "union"]


def identity(value: object) -> object:
    """Return a hashable key that equals another one if both JSON values have the same JSON type and value.

    ``1``, ``"1"`` and ``true`` are three values; ``1`` and ``1.0`` are one, because JSON has one type of number.
    """
    if isinstance(value, (bool, str)) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, Mapping):
        return ("object", frozenset((key, identity(item)) for key, item in value.items()))
    if isinstance(value, Sequence):
        return ("array", tuple(identity(item) for item in value))
    return ("none of JSON", id(value))


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """One node of a type: its kind, its children and its constraints, always in canonical form.

    Build nodes through this module's functions, which keep the form canonical. Integer bounds are always inclusive; of
    an inclusive and an exclusive float bound only the tighter one is kept; a node with choices has no other constraint,
    since every choice satisfies them. An ``any`` without choices is always nullable. A union without members is the
    null type, which stands only inside other unions and never in a signature.

    Attributes:
        kind: What JSON value the node takes.
        items: The type of a list's items, else None.
        key: The type of a dict's keys: a string or an integer (as decimal text), else None.
        values: The type of a dict's values, else None.
        members: The alternatives of a union, in the order in which they are tried; none is null, nullable or a union
            without choices.
        nullable: Whether null is a value of this type.
        minimum: Lowest value of a number, inclusive, or None.
        maximum: Highest value of a number, inclusive, or None.
        exclusive_minimum: A float must be greater than this, or None.
        exclusive_maximum: A float must be less than this, or None.
        min_length: Least number of characters of a string, or of items of a list, or None.
        max_length: Greatest number of characters of a string, or of items of a list, or None.
        choices: The only values allowed besides null, in the order given, or None.
        choice_index: Identity of a choice → the choice; empty without choices.
    """

    kind: Kind
    items: Type | None = None
    key: Type | None = None
    values: Type | None = None
    members: tuple[Type, ...] = ()
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    choices: tuple[object, ...] | None = None
    choice_index: Mapping[object, object] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {identity(choice): choice for choice in self.choices or ()}
        object.__setattr__(self, "choice_index", index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        choices = None if self.choices is None else json.dumps(self.choices, sort_keys=True)
        children = (self.items, self.key, self.values, self.members)
        bounds = (self.minimum, self.maximum, self.exclusive_minimum, self.exclusive_maximum)
        return (self.kind, self.nullable, children, bounds, self.min_length, self.max_length, choices)


STRING = Type("string")
INTEGER = Type("integer")
FLOAT = Type("float")
BOOLEAN = Type("boolean")
ANY = Type("any", nullable=True)
NULL = Type("union", nullable=True)
PROBABILITY = Type("float", minimum=0.0, maximum=1.0)


def list_of(items: Type) -> Type:
    """Return the type of a list whose items all have the given type."""
    return Type("list", items=items)


def dict_of(key: Type, values: Type) -> Type:
    """Return the type of an object with any keys of one type and values of another."""
    return Type("dict", key=key, values=values)


def nullable_of(node: Type) -> Type:
    """Return the same type with null as one more value."""
    return node if node.nullable else replace(node, nullable=True)


def union_of(members: Sequence[Type]) -> Type:
    """Return the canonical union: flat, without doubles, null as a flag, a single member standing for itself.

    A member ``any`` without choices takes every value, so the union is ``any``.
    """
    flat = _flatten(members)
    if ANY in flat:
        return ANY
    is_nullable = any(member.nullable for member in members)
    distinct = tuple(dict.fromkeys(_without_null(member) for member in flat))
    if len(distinct) == 1:
        return nullable_of(distinct[0]) if is_nullable else distinct[0]
    return Type("union", members=distinct, nullable=is_nullable)


def item_type(node: Type) -> Type:
    """Return the type of a list's items.

    Raises:
        TypeError: The node is no list.
    """
    if node.items is None:
        raise TypeError(f"a {node.kind} has no items")
    return node.items


def pair_types(node: Type) -> tuple[Type, Type]:
    """Return the types of a dict's keys and of its values.

    Raises:
        TypeError: The node is no dict.
    """
    if node.key is None or node.values is None:
        raise TypeError(f"a {node.kind} has no keys")
    return node.key, node.values


def is_null(node: Type) -> bool:
    """Say whether the node is the null type, which may stand only inside a union."""
    return node.kind == "union" and not node.members


def depth(node: Type) -> int:
    """Return how many lists, dicts and unions stand inside each other; 0 for a scalar."""
    children = [child for child in (node.items, node.key, node.values, *node.members) if child is not None]
    return 1 + max(map(depth, children)) if children else 0


def float_range(node: Type) -> tuple[float, float]:
    """Return the lowest and the highest float that a float type takes; the first is the greater one if there is none."""
    low = -math.inf if node.minimum is None else node.minimum
    high = math.inf if node.maximum is None else node.maximum
    if node.exclusive_minimum is not None:
        low = math.nextafter(node.exclusive_minimum, math.inf)
    if node.exclusive_maximum is not None:
        high = math.nextafter(node.exclusive_maximum, -math.inf)
    return low, high


def _flatten(members: Sequence[Type]) -> list[Type]:
    flat: list[Type] = []
    for member in members:
        is_open_union = member.kind == "union" and member.choices is None
        flat.extend(member.members if is_open_union else (member,))
    return flat


def _without_null(node: Type) -> Type:
    return replace(node, nullable=False) if node.nullable else node
