"""The words that name types, and what each one means with and without arguments."""

from __future__ import annotations

from collections.abc import Sequence

from worker import suggestions
from worker.errors import UnknownTypeError
from worker.signatures.nodes import (
    ANY,
    BOOLEAN,
    FLOAT,
    INTEGER,
    NULL,
    PROBABILITY,
    STRING,
    Type,
    dict_of,
    is_null,
    list_of,
    nullable_of,
    union_of,
)
from worker.signatures.places import Place, quote

_PLAIN: dict[str, Type] = {
    **dict.fromkeys(("string", "str", "text", "atom"), STRING),
    **dict.fromkeys(("integer", "int"), INTEGER),
    **dict.fromkeys(("float", "number", "double"), FLOAT),
    **dict.fromkeys(("boolean", "bool"), BOOLEAN),
    **dict.fromkeys(("probability", "confidence_score"), PROBABILITY),
    **dict.fromkeys(("null", "nil", "none", "nonetype"), NULL),
    "any": ANY,
    "embedding": list_of(FLOAT),
    "reasoning_chain": list_of(STRING),
}
_LISTS = ("list", "array")
_DICTS = ("dict", "map", "object")
_NULLS = frozenset(("null", "nil", "none", "nonetype"))
_COMMON = ("string", "integer", "float", "boolean", "any", "list<string>", "dict<string, any>", "string?")

TUPLE_HEADS = frozenset((*_LISTS, "dict", "map", "union", "optional"))
"""The words that make a JSON array an encoded tuple instead of a union."""

ACCEPTED = (*_PLAIN, *_LISTS, *_DICTS, "union", "optional")
"""Every word that stands for a type."""


def is_null_word(spelling: object) -> bool:
    """Say whether a spelling is one of the words for null."""
    return spelling is None or (isinstance(spelling, str) and spelling.lower().lstrip(":") in _NULLS)


def from_word(word: str, arguments: Sequence[Type] | None, *, place: Place) -> Type:
    """Return the type that a word stands for.

    Args:
        word: Such as ``list`` or ``Optional``; case does not matter.
        arguments: The types in its brackets, or None where it has none.
        place: Where it stands.

    Raises:
        UnknownTypeError: No type is spelled so, or with so many arguments.
    """
    known = word.lower()
    if known in _PLAIN and arguments is None:
        return _PLAIN[known]
    if known in _LISTS:
        return _list(arguments, place=place)
    if known in _DICTS:
        return _dict(arguments, place=place)
    if known in ("union", "optional") and arguments:
        return _alternative(known, arguments, place=place)
    raise place.fault(UnknownTypeError, _describe_fault(word))


def nearest(word: str) -> str:
    """Return the end of a sentence that names the accepted spelling nearest to a word, or the common ones."""
    meant = suggestions.nearest(word.lower(), ACCEPTED, cutoff=0.55)
    if meant:
        return f"did you mean `{meant}`?"
    return f"accepted are {', '.join(f'`{one}`' for one in _COMMON)} and more"


def require_value(node: Type, *, place: Place) -> Type:
    """Return the type unless it is null alone.

    Raises:
        UnknownTypeError: null stands outside a union.
    """
    if is_null(node):
        raise place.fault(UnknownTypeError, "null can stand only inside a union, as in `string | null` or `string?`")
    return node


def _list(arguments: Sequence[Type] | None, *, place: Place) -> Type:
    if arguments is None:
        return list_of(ANY)
    if len(arguments) != 1:
        raise place.fault(UnknownTypeError, "a list has one item type, as in `list<string>`")
    return list_of(require_value(arguments[0], place=place))


def _dict(arguments: Sequence[Type] | None, *, place: Place) -> Type:
    if arguments is None:
        return dict_of(STRING, ANY)
    if len(arguments) != 2:
        raise place.fault(UnknownTypeError, "a dict has a key type and a value type, as in `dict<string, integer>`")
    key, values = arguments
    if key.kind not in ("string", "integer") or key.nullable:
        raise place.fault(
            UnknownTypeError, "a dict's keys are strings, integers or a choice, as in `dict<string, any>`"
        )
    return dict_of(key, require_value(values, place=place))


def _alternative(word: str, arguments: Sequence[Type], *, place: Place) -> Type:
    if word == "union":
        return union_of(arguments)
    if len(arguments) != 1:
        raise place.fault(UnknownTypeError, "optional has one type, as in `optional<string>`")
    return nullable_of(arguments[0])


def _describe_fault(word: str) -> str:
    if word.lower() in _PLAIN:
        return f"type {quote(word)} takes no arguments"
    if word.lower() in ("union", "optional"):
        return f"type {quote(word)} needs arguments, as in `union<string | integer>` or `optional<string>`"
    return f"unknown type {quote(word)}; {nearest(word)}"
