"""One type of a field, as a tree of nodes in canonical form.

Every spelling ends here: a probability is a float from 0 to 1, an embedding a list of floats, ``t | null`` a nullable
``t``. Two spellings that mean the same therefore compare equal, and so do the fingerprints built on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

Kind = Literal["string", "integer", "float", "boolean", "any", "list", "dict", "object", "union"]


_NO_CHOICES: Mapping[object, object] = {}
_NO_NAMES: frozenset[str] = frozenset()
_MAX_STEP_CHARACTERS = 100
_HASHED_AS_IS = 2**61 - 1


def identity(value: object) -> object:
    """Return a hashable key that equals another one if both JSON values have the same JSON type and value.

    ``1``, ``"1"`` and ``true`` are three values; ``1`` and ``1.0`` are one, because JSON has one type of number.
    """
    if isinstance(value, (bool, str)) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, (int, float)):
        # Numbers have no secret in their hashes, so large ones could be chosen to have one hash for all.
        is_plain = -_HASHED_AS_IS < value < _HASHED_AS_IS or (isinstance(value, float) and not math.isfinite(value))
        return ("number", value if is_plain else hex(int(value)))
    if isinstance(value, Mapping):
        return ("object", frozenset((key, identity(item)) for key, item in value.items()))
    if isinstance(value, Sequence):
        return ("array", tuple(identity(item) for item in value))
    return ("none of JSON", id(value))


def pointer_step(name: object) -> str:
    """Return a name or an index as one step of a JSON pointer; a longer name is cut after 100 characters.

    See Also:
        RFC 6901, section 3: ``~`` is written ``~0``, ``/`` is written ``~1``.
    """
    whole = str(name)
    cut = whole if len(whole) <= _MAX_STEP_CHARACTERS else f"{whole[:_MAX_STEP_CHARACTERS]}…"
    return "/" + cut.replace("~", "~0").replace("/", "~1")


def exact_fraction(number: float) -> Fraction:
    """Return a number as the decimal that JSON writes for it: 0.1 is one tenth, not its nearest binary float."""
    return Fraction(number) if isinstance(number, int) else Fraction(Decimal(repr(number)))


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a nested object; it may be required, have a default and be nullable, as a field may.

    Attributes:
        name: The wire name, in NFC.
        type: What values it takes.
        description: What it means, for the prompt; trimmed, empty if none was given.
        required: False if it may be absent; always False where there is a default.
        default: The value of an absent member; it satisfies ``type``. Only meaningful with ``has_default``.
        has_default: Whether a default was declared.
    """

    name: str
    type: Type
    description: str = ""
    required: bool = True
    default: object = field(default=None, hash=False)
    has_default: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """All of it as a hashable value that tells 1, 1.0 and true apart."""
        default = json.dumps(self.default, sort_keys=True) if self.has_default else None
        return (self.name, self.type, self.description, self.required, default)


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
        properties: The members of a nested object, in the order declared; it takes no others.
        nullable: Whether null is a value of this type.
        minimum: Lowest value of a number, inclusive, or None.
        maximum: Highest value of a number, inclusive, or None.
        exclusive_minimum: A float must be greater than this, or None.
        exclusive_maximum: A float must be less than this, or None.
        multiple_of: A number must be a multiple of this, counted in decimals, or None; positive, of an integer whole.
        min_length: Least number of characters of a string, of items of a list, of entries of a dict, or None.
        max_length: Greatest number of characters of a string, of items of a list, of entries of a dict, or None.
        is_unique: Whether the items of a list must all differ, by JSON type and value.
        pattern: A regular expression that is found somewhere in a string, or None.
        format: The name of a format that a string has, or None.
        choices: The only values allowed besides null, in the order given, or None.
        choice_index: Identity of a choice → the choice; empty without choices.
        member_names: The names of a nested object's members.
        required_names: Those that must be there.
    """

    kind: Kind
    items: Type | None = None
    key: Type | None = None
    values: Type | None = None
    members: tuple[Type, ...] = ()
    properties: tuple[Member, ...] = ()
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    is_unique: bool = False
    pattern: str | None = None
    format: str | None = None
    choices: tuple[object, ...] | None = None
    choice_index: Mapping[object, object] = field(init=False, repr=False)
    member_names: frozenset[str] = field(init=False, repr=False)
    required_names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {identity(choice): choice for choice in self.choices} if self.choices else _NO_CHOICES
        object.__setattr__(self, "choice_index", index)
        members = self.properties
        names = frozenset(member.name for member in members) if members else _NO_NAMES
        required = frozenset(member.name for member in members if member.required) if members else _NO_NAMES
        object.__setattr__(self, "member_names", names)
        object.__setattr__(self, "required_names", required)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        choices = None if self.choices is None else json.dumps(self.choices, sort_keys=True)
        properties = tuple(member.key for member in self.properties)
        children = (self.items, self.key, self.values, self.members, properties)
        range_ = (self.minimum, self.maximum, self.exclusive_minimum, self.exclusive_maximum, self.multiple_of)
        rest = (self.min_length, self.max_length, self.is_unique, self.pattern, self.format)
        return (self.kind, self.nullable, children, range_, rest, choices)


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


def object_of(properties: Sequence[Member]) -> Type:
    """Return the type of an object with exactly these members."""
    return Type("object", properties=tuple(properties))


def is_null(node: Type) -> bool:
    """Say whether the node is the null type, which may stand only inside a union."""
    return node.kind == "union" and not node.members


def depth(node: Type) -> int:
    """Return how many lists, dicts, objects and unions stand inside each other; 0 for a scalar."""
    children = children_of(node)
    return 1 + max(map(depth, children)) if children else 0


def width(node: Type) -> int:
    """Return how many types a value may have to be checked against: all of them where there is a choice, else 1."""
    if node.kind == "union":
        return size(node)
    return max(map(width, children_of(node)), default=1)


def size(node: Type) -> int:
    """Return how many types a type is made of."""
    return 1 + sum(map(size, children_of(node)))


def children_of(node: Type) -> list[Type]:
    """Return the types that stand directly inside a type."""
    if node.properties:
        return [member.type for member in node.properties]
    return [child for child in (node.items, node.key, node.values, *node.members) if child is not None]


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
