"""JSON as the contract asks for it: nothing that another language would read as something else.

The standard library's parser accepts NaN, infinities, duplicate keys and lone surrogates, and recurses until it dies.
All of them are refused here, once, at the door. Integers keep every digit, which is why no faster parser stands in.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from worker.errors import BodyTooLargeError, InvalidJSONError

MAX_DEPTH = 100
MAX_ITEMS = 200_000

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes, *, max_bytes: int) -> Any:
    """Parse a body strictly.

    Args:
        body: UTF-8 JSON text.
        max_bytes: Largest body accepted.

    Raises:
        BodyTooLargeError: More than ``max_bytes``.
        InvalidJSONError: Anything else that is wrong with it.
    """
    if len(body) > max_bytes:
        raise BodyTooLargeError(f"The body has {len(body)} bytes; at most {max_bytes} are accepted")
    try:
        document = _decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidJSONError(f"The body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidJSONError(f"The body is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise InvalidJSONError(f"The body is not JSON: {error}") from None
    _check_size(body, document)
    if _SURROGATE_ESCAPE.search(body):
        _check_surrogates(document)
    return document


def dump(value: Any) -> bytes:
    """Write compact UTF-8 JSON. A float always keeps a fraction or an exponent.

    Raises:
        ValueError: The value holds NaN, an infinity or a lone surrogate.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def canonical(value: Any) -> bytes:
    """Write JSON with sorted keys and no spaces, the form that hashes are taken of."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def _decode(text: str) -> Any:
    objects = itertools.count(1)

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Counted on the way: to read millions of them would take longer than any job may hold up the others.
        if next(objects) > MAX_ITEMS:
            raise InvalidJSONError(f"The body holds more than {MAX_ITEMS} objects")
        return _unique(pairs)

    return json.loads(text, object_pairs_hook=read_object, parse_constant=_refuse_constant, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:64]!r} stands twice in one object")
        seen.add(key)
    raise AssertionError("fewer members than pairs, and no key stands twice")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:32]} is out of range")
    return number


def _check_size(body: bytes, document: Any) -> None:
    """Refuse too deep or too long values; the counts spare the walk for every ordinary body."""
    may_be_deep = body.count(b"[") + body.count(b"{") > MAX_DEPTH
    may_be_long = body.count(b",") >= MAX_ITEMS
    if not (may_be_deep or may_be_long):
        return
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise InvalidJSONError(f"The body is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> Iterator[Any]:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if len(members) > MAX_ITEMS:
        raise InvalidJSONError(f"The body holds a list or object of more than {MAX_ITEMS} items")
    return (member for member in members if isinstance(member, dict | list))


def _check_surrogates(document: Any) -> None:
    try:
        dump(document)
    except UnicodeEncodeError:
        raise InvalidJSONError("The body holds a lone surrogate, which is not a character") from None
