"""Read a language model's text as values of a type.

Text is read as JSON where the type is no string; nothing is guessed beyond the few spellings below, because a wrong value
is worse than asking again.
"""

from __future__ import annotations

from worker.signatures.nodes import Type
from worker.signatures.phrases import describe_choices, describe_type
from worker.signatures.strict_json import read_json
from worker.signatures.values import Faults, check_value

_NULLS = frozenset(("", "null", "None"))
_BOOLEANS = {"true": True, "false": False}
_QUOTES = "\"'`"
_NOT_JSON = object()


def is_null_text(text: str) -> bool:
    """Say whether a text stands for null where null is allowed: ``null``, ``None`` or nothing."""
    return text.strip() in _NULLS


def read_text(text: str, expected: Type, *, faults: Faults) -> object:
    """Return the value that a text means, and add to ``faults`` what is wrong with it.

    Booleans may be written in any case; a choice exactly, else as the only one that matches without case and outer
    quotes; in a union with strings, text that is JSON of another member is that, else it stays text.
    """
    if expected.nullable and is_null_text(text):
        return None
    if expected.choices is not None:
        return _read_choice(text, expected, faults=faults)
    if expected.kind == "string":
        return check_value(text, expected, faults=faults)
    if expected.kind == "union":
        return _read_union(text, expected, faults=faults)
    return _read_other(text, expected, faults=faults)


def _read_other(text: str, expected: Type, *, faults: Faults) -> object:
    value = _read_boolean(text) if expected.kind == "boolean" else _try_json(text)
    if value is _NOT_JSON and expected.kind == "any":
        value = text
    if value is _NOT_JSON:
        faults.append(("", f"must be JSON: {describe_type(expected)}"))
        return None
    return check_value(value, expected, faults=faults)


def _read_choice(text: str, expected: Type, *, faults: Faults) -> object:
    choices = expected.choices or ()
    words = [choice for choice in choices if isinstance(choice, str)]
    for spelling in (text, text.strip()):
        if spelling in words:
            return spelling
    value = _read_boolean(text) if expected.kind == "boolean" else _try_json(text)
    if value is not _NOT_JSON and not isinstance(value, str):
        found: Faults = []
        taken = check_value(value, expected, faults=found)
        if not found:
            return taken
    near = [word for word in words if _bare(word) == _bare(text)]
    if len(near) == 1:
        return near[0]
    faults.append(("", f"must be one of: {describe_choices(expected)}"))
    return None


def _read_union(text: str, expected: Type, *, faults: Faults) -> object:
    value = _read_member_json(text, expected)
    if value is not _NOT_JSON:
        return value
    problems: Faults = []
    for member in expected.members:
        if member.kind in ("string", "union", "any"):
            found: Faults = []
            taken = read_text(text, member, faults=found)
            if not found:
                return taken
            problems.extend(found)
    is_told = len(problems) == 1
    faults.append(problems[0] if is_told else ("", f"must be {describe_type(expected)}"))
    return None


def _read_member_json(text: str, expected: Type) -> object:
    """Return the value of the first member other than text that takes the text as JSON, or a mark for none."""
    others = tuple(member for member in expected.members if member.kind != "string")
    value = _try_json(text)
    if value is _NOT_JSON or isinstance(value, str):
        value = _read_boolean(text)
    if value is _NOT_JSON or not others:
        return _NOT_JSON
    found: Faults = []
    taken = check_value(value, Type("union", members=others), faults=found)
    return _NOT_JSON if found else taken


def _read_boolean(text: str) -> object:
    return _BOOLEANS.get(text.strip().lower(), _NOT_JSON)


def _try_json(text: str) -> object:
    try:
        return read_json(text.strip())
    except ValueError:
        return _NOT_JSON


def _bare(text: str) -> str:
    bare = text.strip()
    while len(bare) >= 2 and bare[0] == bare[-1] and bare[0] in _QUOTES:
        bare = bare[1:-1].strip()
    return bare.casefold()
