"""What a field may be called.

Inside, every field is ``f0``, ``f1``, …, so a name only has to survive the prompt: one line, no brackets and no ``#``,
because answers are read by headers ``[[ ## name ## ]]``.
"""

from __future__ import annotations

import re
import unicodedata

from worker.errors import InvalidFieldNameError
from worker.signatures.places import MAX_NAME_CHARACTERS, Place, quote

_TOO_LONG = f"is longer than {MAX_NAME_CHARACTERS} characters"
_MAX_UNCOMPOSED = 8 * MAX_NAME_CHARACTERS
_FORBIDDEN = frozenset("[]#")
_PLAIN_ASCII = re.compile(r"[A-Za-z_][A-Za-z0-9_]*[?!]?")


def normal_name(name: str) -> str:
    """Return a name in NFC, or as it stands where it is too long to be one.

    Composing takes time by the square of the marks on one letter, and no text is more than a few times longer before.
    """
    return unicodedata.normalize("NFC", name) if len(name) <= _MAX_UNCOMPOSED else name


def read_name(name: object, *, place: Place, is_word: bool) -> str:
    """Return a field name in NFC, or refuse it.

    Args:
        name: As sent.
        place: Where it stands.
        is_word: True in a string signature, where only letters, digits, ``_`` and a last ``?`` or ``!`` can stand;
            definition objects may use other printable characters.

    Raises:
        InvalidFieldNameError: Not a text, empty, too long, or with characters that are not allowed.
    """
    if not isinstance(name, str):
        raise place.fault(InvalidFieldNameError, "field name must be a string")
    normal = normal_name(name[:_MAX_UNCOMPOSED])
    is_long = len(normal) > MAX_NAME_CHARACTERS or len(name) > _MAX_UNCOMPOSED
    fault = _TOO_LONG if is_long else _fault(normal, is_word=is_word)
    if fault is None:
        return normal
    error = place.fault(InvalidFieldNameError, f"field name {quote(normal)} {fault}", breaks_limit=is_long)
    error.field = place.field or normal
    raise error


def _fault(name: str, *, is_word: bool) -> str | None:
    if not name.strip():
        return "is empty"
    if _is_word(name):
        return None
    if is_word:
        return "must be letters, digits and _, not starting with a digit, with ? or ! only at the end"
    if name != name.strip():
        return "starts or ends with a space"
    if not name.isprintable():
        return "has a character that cannot be printed"
    if _FORBIDDEN.intersection(name):
        return "must not contain [, ] or #"
    return None


def _is_word(name: str) -> bool:
    if name.isascii():
        return _PLAIN_ASCII.fullmatch(name) is not None
    body = name[:-1] if name[-1] in "?!" else name
    kinds = [unicodedata.category(character)[0] for character in body.replace("_", "x")]
    return bool(kinds) and kinds[0] == "L" and set(kinds) <= {"L", "N"}
