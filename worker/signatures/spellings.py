"""Read a type in any of its JSON spellings: text, an encoded tuple, a union's array, a schema object."""

from __future__ import annotations

from collections.abc import Mapping

from worker.errors import InvalidSignatureError, UnknownTypeError
from worker.signatures.bounds import constrain
from worker.signatures.constraints import Pair, sort_pairs
from worker.signatures.grammar import read_type_text
from worker.signatures.nodes import ANY, NULL, STRING, Type, dict_of, list_of, nullable_of, union_of
from worker.signatures.objects import read_object
from worker.signatures.places import MAX_DEPTH, MAX_MEMBERS, Place, quote
from worker.signatures.presence import read_required
from worker.signatures.words import TUPLE_HEADS, from_word, is_null_word, require_value

STRUCTURE = frozenset(("type", "items", "additionalProperties", "anyOf", "oneOf", "properties", "$ref"))
"""The keys of a schema object that say what type it is; all others are constraints."""

STRUCTURE_OF_OBJECT = STRUCTURE | {"required"}
"""The same for a nested object, whose ``required`` is a list of names."""

_TAGS = ("list", "array", "dict", "map", "union", "optional")


def open_spelling(spelling: object, *, place: Place) -> tuple[Type, list[Pair]]:
    """Return the type of a spelling, and the constraints of its outermost schema object, which are not on it yet.

    A field's own constraints and those of its type mean the same, so the caller merges both before it applies them. The
    type may be the null type.

    Raises:
        DefinitionError: The spelling is none that is accepted; the subclass says why.
    """
    if isinstance(spelling, str):
        return read_type_text(spelling, place=place), []
    if isinstance(spelling, list):
        return _read_array(spelling, place=place), []
    if isinstance(spelling, Mapping):
        return _open_schema(spelling, place=place)
    raise place.fault(UnknownTypeError, f"a type is a text, an array or an object, not {quote(spelling)}")


def read_type(spelling: object, *, place: Place) -> Type:
    """Return the type of a nested spelling with all its constraints on it; it may be the null type.

    Raises:
        DefinitionError: As in ``open_spelling``.
    """
    node, pairs = open_spelling(spelling, place=place)
    given = sort_pairs(pairs)
    for word in given.words:
        place.warn(f"{quote(word)} has no effect inside a type")
    # A list of names without `properties` must not be dropped with a warning.
    read_required({}, given, place=place)
    return constrain(node, given)


def _read_array(spelling: list[object], *, place: Place) -> Type:
    if not spelling:
        raise place.fault(UnknownTypeError, "an empty array is no type")
    head = spelling[0].lower().lstrip(":") if isinstance(spelling[0], str) else ""
    # JSON Schema's ["array", "null"] is no tuple: a list of nothing but null has no use.
    if head not in TUPLE_HEADS or (len(spelling) == 2 and is_null_word(spelling[1])):
        return union_of(_read_all(spelling, place=place))
    return _read_tuple(head, spelling[1:], place=place)


def _read_tuple(head: str, rest: list[object], *, place: Place) -> Type:
    if head == "union" and len(rest) == 1 and isinstance(rest[0], list):
        return from_word(head, _read_all(rest[0], place=place), place=place)
    return from_word(head, _read_all(rest, place=place, first=1) if rest else None, place=place)


def _read_all(spellings: list[object], *, place: Place, first: int = 0) -> list[Type]:
    if len(spellings) > MAX_MEMBERS:
        raise place.fault(InvalidSignatureError, f"more than {MAX_MEMBERS} types in one array", breaks_limit=True)
    return [
        NULL if one is None else read_type(one, place=place.inside(index))
        for index, one in enumerate(spellings, start=first)
    ]


def _open_schema(schema: Mapping[str, object], *, place: Place) -> tuple[Type, list[Pair]]:
    if "$ref" in schema:
        raise place.at("$ref").fault(UnknownTypeError, "`$ref` is not supported; write the type out in its place")
    tag = _tag(schema)
    node, pairs = _read_tag(tag, schema[tag], place=place) if tag else _read_structure(schema, place=place)
    skipped = structure_of(schema)
    place.require_constraints(len(schema.keys() - skipped - {tag}))
    own = [Pair(str(key), value, place.at(key)) for key, value in schema.items() if key not in skipped and key != tag]
    return node, [*pairs, *own]


def structure_of(schema: Mapping[str, object]) -> frozenset[str]:
    """Return the keys of a schema object that say what type it is; with ``properties``, ``required`` is one of them."""
    is_object = "properties" in schema and isinstance(schema.get("required"), list)
    return STRUCTURE_OF_OBJECT if is_object else STRUCTURE


def _tag(schema: Mapping[str, object]) -> str | None:
    if STRUCTURE.intersection(schema):
        return None
    return next((tag for tag in _TAGS if tag in schema and not isinstance(schema[tag], bool)), None)


def _read_tag(tag: str, value: object, *, place: Place) -> tuple[Type, list[Pair]]:
    inner = place.at(tag)
    is_many = tag in ("dict", "map", "union")
    if is_many and not isinstance(value, list):
        raise inner.fault(UnknownTypeError, f"{quote(tag)} takes an array of types")
    arguments = _read_all(value, place=inner) if isinstance(value, list) and is_many else None
    if arguments is None:
        arguments = [read_type(value, place=inner.inside())]
    return from_word(tag, arguments, place=inner), []


def _read_structure(schema: Mapping[str, object], *, place: Place) -> tuple[Type, list[Pair]]:
    node, pairs = _read_named(schema, place=place)
    if "properties" in schema:
        return _with_properties(node, schema, place=place), pairs
    if "items" in schema:
        node = _with_items(node, schema["items"], place=place.at("items"))
    if "additionalProperties" in schema:
        node = _with_values(node, schema["additionalProperties"], place=place.at("additionalProperties"))
    return node, pairs


def _read_named(schema: Mapping[str, object], *, place: Place) -> tuple[Type, list[Pair]]:
    named = [key for key in ("type", "anyOf", "oneOf") if key in schema]
    if len(named) > 1:
        raise place.fault(UnknownTypeError, f"{quote(named[0])} and {quote(named[1])} cannot stand together")
    if not named:
        return _implied(schema), []
    inner = place.inside(named[0])
    spelling = schema[named[0]]
    if named[0] == "type":
        return open_spelling(spelling, place=inner)
    if not isinstance(spelling, list) or not spelling:
        raise inner.fault(UnknownTypeError, f"{quote(named[0])} takes an array of types")
    return union_of(_read_all(spelling, place=inner)), []


def _implied(schema: Mapping[str, object]) -> Type:
    if "items" in schema:
        return list_of(ANY)
    return dict_of(STRING, ANY) if "additionalProperties" in schema or "properties" in schema else ANY


def _with_items(node: Type, spelling: object, *, place: Place) -> Type:
    if node.kind != "list":
        raise place.fault(UnknownTypeError, "`items` stands only with a list")
    items = ANY if spelling is True else require_value(read_type(spelling, place=place.inside()), place=place)
    return nullable_of(list_of(items)) if node.nullable else list_of(items)


def _with_properties(node: Type, schema: Mapping[str, object], *, place: Place) -> Type:
    is_plain = node.kind == "dict" and node.key == STRING and node.values == ANY and "items" not in schema
    if not is_plain:
        raise place.fault(UnknownTypeError, "`properties` stands only with the type object")
    taken = read_object(schema, place=place, open_spelling=open_spelling)
    return nullable_of(taken) if node.nullable else taken


def _with_values(node: Type, spelling: object, *, place: Place) -> Type:
    if node.kind != "dict" or node.key is None:
        raise place.fault(UnknownTypeError, "`additionalProperties` stands only with an object")
    if spelling is False:
        raise place.fault(
            UnknownTypeError, "an object without `properties` and without others takes nothing; use `map`"
        )
    values = ANY if spelling is True else require_value(read_type(spelling, place=place.inside()), place=place)
    taken = dict_of(node.key, values)
    return nullable_of(taken) if node.nullable else taken


def require_depth(levels: int, *, place: Place) -> None:
    """Accept a type with so many lists, dicts and unions inside each other.

    Raises:
        InvalidSignatureError: They are more than ``MAX_DEPTH``.
    """
    if levels > MAX_DEPTH:
        raise place.fault(InvalidSignatureError, f"type is nested deeper than {MAX_DEPTH}", breaks_limit=True)
