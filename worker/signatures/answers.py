"""Read a language model's text as values of a type.

Text is read as JSON where the type is no string; nothing is guessed beyond the few spellings below, because a wrong value
is worse than asking again.
"""

from __future__ import annotations

from contextlib import suppress

from worker.signatures.nodes import Type
from worker.signatures.phrases import describe_choices, describe_type
from worker.signatures.strict_json import read_json
from worker.signatures.values import Faults, check_value
from worker.signatures.work import COPY_UNITS, TOO_LARGE, Work, WorkSpentError

_NULLS = frozenset(("", "null", "None"))
_BOOLEANS = {"true": True, "false": False}
_FENCE = "```"
# Spaces and quotes around a choice; two characters may become one where case is ignored.
_MAX_AROUND = 100
_QUOTES = "\"'`"
_NOT_JSON = object()


def is_null_text(text: str) -> bool:
    """Say whether a text stands for null where null is allowed: ``null``, ``None`` or nothing."""
    return text.strip() in _NULLS


def read_text(text: str, expected: Type, *, faults: Faults, work: Work) -> object:
    """Return the value that a text means, and add to ``faults`` what is wrong with it.

    Booleans may be written in any case; a choice exactly, else as the only one that matches without case and outer
    quotes; in a union with strings, text that is JSON of another member is that, else it stays text. Where no text can
    be meant, one Markdown code fence around all of it is taken off.
    """
    before = len(faults)
    taken = None
    with suppress(WorkSpentError):
        taken = _read(text if _takes_text(expected) else unfenced(text), expected, faults=faults, work=work)
    if work.is_spent:
        # What is too large for one member of a union must not be taken for another.
        faults[before:] = [("", TOO_LARGE)]
    return taken


def unfenced(text: str) -> str:
    """Return a text without the one Markdown code fence around all of it, with or without the word ``json``."""
    bare = text.strip()
    if len(bare) < 2 * len(_FENCE) or not (bare.startswith(_FENCE) and bare.endswith(_FENCE)):
        return text
    inside = bare[len(_FENCE) : -len(_FENCE)]
    is_json = inside[:4].lower() == "json"
    return (inside[4:] if is_json else inside).strip()


def _takes_text(expected: Type) -> bool:
    return expected.kind in ("string", "any") or any(map(_takes_text, expected.members))


def _read(text: str, expected: Type, *, faults: Faults, work: Work) -> object:
    if expected.nullable and is_null_text(text):
        return None
    if expected.choices is not None:
        return _read_choice(text, expected, faults=faults, work=work)
    if expected.kind == "string":
        return check_value(text, expected, faults=faults, work=work)
    if expected.kind == "union":
        return _read_union(text, expected, faults=faults, work=work)
    return _read_other(text, expected, faults=faults, work=work)


def _read_other(text: str, expected: Type, *, faults: Faults, work: Work) -> object:
    value = _read_boolean(text) if expected.kind == "boolean" else _try_json(unfenced(text), work=work)
    if value is _NOT_JSON and expected.kind == "any":
        value = text
    if value is _NOT_JSON:
        faults.append(("", f"must be JSON: {describe_type(expected)}"))
        return None
    return check_value(value, expected, faults=faults, work=work)


def _read_choice(text: str, expected: Type, *, faults: Faults, work: Work) -> object:
    choices = expected.choices or ()
    words = [choice for choice in choices if isinstance(choice, str)]
    work.pay(COPY_UNITS * len(words))
    for spelling in (text, text.strip()):
        if spelling in words:
            return spelling
    value = _read_boolean(text) if expected.kind == "boolean" else _try_json(text, work=work)
    if value is not _NOT_JSON and not isinstance(value, str):
        found: Faults = []
        taken = check_value(value, expected, faults=found, work=work)
        if not found:
            return taken
    near = _nearest(text, words)
    if len(near) == 1:
        return near[0]
    faults.append(("", f"must be one of: {describe_choices(expected)}"))
    return None


def _nearest(text: str, words: list[str]) -> list[str]:
    """Return the choices that a text is without case and outer quotes; a text that is far too long is none."""
    if len(text.strip()) > 2 * max(map(len, words), default=0) + _MAX_AROUND:
        return []
    bare = _bare(text)
    return [word for word in words if _bare(word) == bare]


def _read_union(text: str, expected: Type, *, faults: Faults, work: Work) -> object:
    value = _read_member_json(text, expected, work=work)
    if value is not _NOT_JSON:
        return value
    problems: Faults = []
    for member in expected.members:
        if member.kind in ("string", "union", "any"):
            found: Faults = []
            taken = _read(text, member, faults=found, work=work)
            if not found:
                return taken
            problems.extend(found)
    is_told = len(problems) == 1
    faults.append(problems[0] if is_told else ("", f"must be {describe_type(expected)}"))
    return None


def _read_member_json(text: str, expected: Type, *, work: Work) -> object:
    """Return the value of the first member other than text that takes the text as JSON, or a mark for none."""
    others = tuple(member for member in expected.members if member.kind != "string")
    value = _try_json(text, work=work)
    if value is _NOT_JSON or isinstance(value, str):
        value = _read_boolean(text)
    if value is _NOT_JSON or not others:
        return _NOT_JSON
    found: Faults = []
    taken = check_value(value, Type("union", members=others), faults=found, work=work)
    return _NOT_JSON if found else taken


def _read_boolean(text: str) -> object:
    return _BOOLEANS.get(text.strip().lower(), _NOT_JSON)


def _try_json(text: str, *, work: Work) -> object:
    work.pay_for_reading(text)
    try:
        return read_json(text.strip())
    except ValueError:
        return _NOT_JSON


def _bare(text: str) -> str:
    bare = text.strip()
    while len(bare) >= 2 and bare[0] == bare[-1] and bare[0] in _QUOTES:
        bare = bare[1:-1].strip()
    return bare.casefold()
