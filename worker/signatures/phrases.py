"""Say in English what a type takes: for prompts and for refusals, always in wire words."""

from __future__ import annotations

import json
from collections.abc import Callable

from worker.signatures.nodes import ANY, Member, Type, item_type, pair_types

_SINGULAR = {"string": "string", "integer": "integer", "float": "number", "boolean": "boolean", "any": "any JSON value"}
_PLURAL = {
    "string": "strings",
    "integer": "integers",
    "float": "numbers",
    "boolean": "booleans",
    "any": "JSON values of any type",
}
_MAX_CHOICES_SHOWN = 50
_MAX_CODE_SHOWN = 200
_FORMATS = {
    "date": "as a date like 2026-01-31",
    "date-time": "as a date and time like 2026-01-31T12:30:00Z",
    "time": "as a time like 12:30:00Z",
    "uuid": "as a UUID",
    "email": "as an email address",
    "uri": "as a URI with its scheme",
    "ipv4": "as an IPv4 address",
    "ipv6": "as an IPv6 address",
}


def describe_type(node: Type) -> str:
    """Return one short phrase for a type, e.g. ``list of 1 to 5 strings`` or ``number from 0 to 1``."""
    phrase = _describe_choices(node) if node.choices is not None else _describe_open(node)
    if not node.nullable or node == ANY:
        return phrase
    return f"null or {phrase}" if ";" in phrase else f"{phrase} or null"


def describe_choices(node: Type) -> str:
    """Return the choices of a type as JSON, e.g. ``"a", "b"``."""
    choices = node.choices or ()
    shown = ", ".join(json.dumps(choice, ensure_ascii=False) for choice in choices[:_MAX_CHOICES_SHOWN])
    return f"{shown}, …" if len(choices) > _MAX_CHOICES_SHOWN else shown


def describe_range(node: Type) -> str:
    """Return the range of a number, e.g. ``from 0 to 1`` or ``greater than 0``; empty without bounds."""
    if node.minimum is not None and node.maximum is not None:
        return f"from {show_number(node.minimum)} to {show_number(node.maximum)}"
    bounds = (
        ("of at least", node.minimum),
        ("greater than", node.exclusive_minimum),
        ("at most", node.maximum),
        ("less than", node.exclusive_maximum),
    )
    said = " and ".join(f"{words} {show_number(bound)}" for words, bound in bounds if bound is not None)
    return f"of {said}" if said.startswith("at most") else said


def describe_length(node: Type) -> str:
    """Return how many characters or items there must be, e.g. ``1 to 5``; empty without bounds."""
    if node.min_length is not None and node.min_length == node.max_length:
        return f"exactly {node.min_length}"
    if node.min_length is not None and node.max_length is not None:
        return f"{node.min_length} to {node.max_length}"
    if node.min_length is not None:
        return f"at least {node.min_length}"
    return f"at most {node.max_length}" if node.max_length is not None else ""


def show_number(number: float) -> str:
    """Return a number as people write it: ``1`` for ``1.0``."""
    return json.dumps(int(number) if abs(number) < 1e15 and float(number).is_integer() else number)


def show_code(text: str) -> str:
    """Return a pattern for a phrase, cut where it is long."""
    return f"`{text}`" if len(text) <= _MAX_CODE_SHOWN else f"`{text[:_MAX_CODE_SHOWN]}…`"


def _describe_choices(node: Type) -> str:
    kind = _SINGULAR.get(node.kind) or _describe_open(node)
    return f"{kind}, one of: {describe_choices(node)}"


def _describe_open(node: Type) -> str:
    if node.kind == "union":
        return " or ".join(_in_brackets(describe_type(member)) for member in node.members)
    describe = _DESCRIBE.get(node.kind)
    return describe(node) if describe is not None else _describe_number(node)


def _describe_number(node: Type) -> str:
    said = [f"{_SINGULAR[node.kind]} {describe_range(node)}".rstrip()]
    if node.multiple_of is not None:
        said.append(f"a multiple of {show_number(node.multiple_of)}")
    return ", ".join(said)


def _describe_string(node: Type) -> str:
    length = describe_length(node)
    said = [f"string of {length} characters" if length else "string"]
    if node.pattern is not None:
        said.append(f"matching {show_code(node.pattern)}")
    if node.format is not None:
        said.append(_FORMATS[node.format])
    return ", ".join(said)


def _describe_dict(node: Type) -> str:
    key, values = pair_types(node)
    length = describe_length(node)
    counted = f"object of {length} entries with" if length else "object with"
    return f"{counted} {_describe_key(key)} keys; each value: {describe_type(values)}"


def _describe_object(node: Type) -> str:
    return f"object with exactly {', '.join(map(_describe_member, node.properties))}"


def _describe_member(member: Member) -> str:
    optional = "" if member.required else ", may be left out"
    description = f"; {member.description}" if member.description else ""
    return f"{json.dumps(member.name, ensure_ascii=False)} ({describe_type(member.type)}{optional}{description})"


def _describe_list(node: Type) -> str:
    items = item_type(node)
    length = describe_length(node)
    distinct = "different " if node.is_unique else ""
    plural = _PLURAL.get(items.kind) if _is_plain(items) else None
    if plural is not None:
        return f"list of {length} {distinct}{plural}" if length else f"list of {distinct}{plural}"
    counted = f"list of {length} {distinct}items" if length else f"list of {distinct}items" if distinct else "list"
    return f"{counted}; each item: {describe_type(items)}"


def _describe_key(key: Type) -> str:
    return describe_type(key) if _is_plain(key) else f"({describe_type(key)})"


def _in_brackets(phrase: str) -> str:
    return f"({phrase})" if ";" in phrase or "," in phrase else phrase


def _is_plain(node: Type) -> bool:
    return node in (Type(node.kind), ANY)


_DESCRIBE: dict[str, Callable[[Type], str]] = {
    "string": _describe_string,
    "list": _describe_list,
    "dict": _describe_dict,
    "object": _describe_object,
}
