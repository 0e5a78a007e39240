"""Read types and signatures that are written as text.

::

    signature = side "->" side        side = field { "," field }        field = NAME [ ":" type ]
    type = post { "|" post }          post = prim { "?" }               prim = [":"] WORD [ args ] | "(" type ")"
    args = ("<" | "[" | "(") type { ("," | "|") type } the matching bracket

Words ignore case, spaces are free, and a NAME ends at the colon. The text is only ever compared with known words: nothing
in it is imported or evaluated, as DSPy's own parser would do.
"""

from __future__ import annotations

import re

from worker.errors import DefinitionError, InvalidSignatureError, UnknownTypeError
from worker.signatures.names import read_name
from worker.signatures.nodes import STRING, Type, nullable_of, union_of
from worker.signatures.places import MAX_FIELDS, MAX_TEXT_CHARACTERS, Place, quote
from worker.signatures.words import from_word, nearest, require_value

_SPACES = re.compile(r"\s*")
_WORD = re.compile(r"[^\s<>\[\]()|,?:]+")
_NAME = re.compile(r"[^:,]*")
_CLOSING = {"<": ">", "[": "]", "(": ")"}


def read_type_text(text: str, *, place: Place) -> Type:
    """Return the type written in a text, e.g. ``list<string | integer>?``; it may be the null type.

    Raises:
        UnknownTypeError: The text is no type.
        InvalidSignatureError: It is too long or nested too deep.
    """
    _require_length(text, place=place)
    cursor = _Cursor(text, place=place)
    node = cursor.read_type()
    cursor.require_end()
    return node


def read_signature_text(text: str, *, place: Place) -> tuple[list[tuple[str, Type]], list[tuple[str, Type]]]:
    """Return inputs and outputs of a string signature, each a list of (name, type).

    Raises:
        DefinitionError: The text does not follow the grammar; the subclass tells which part of it.
    """
    _require_length(text, place=place)
    sides = text.split("->")
    if len(sides) != 2:
        raise place.fault(
            InvalidSignatureError, "a signature has exactly one `->`, as in `text: string -> label: string`"
        )
    inputs, outputs = (_read_side(side, place=place) for side in sides)
    return inputs, outputs


def _read_side(text: str, *, place: Place) -> list[tuple[str, Type]]:
    cursor = _Cursor(text, place=place)
    if cursor.is_at_end():
        raise place.fault(InvalidSignatureError, "a signature needs at least one input and one output")
    fields = [cursor.read_field()]
    while cursor.accept(","):
        fields.append(cursor.read_field())
        _require_count(len(fields), place=place)
    cursor.require_end()
    return fields


def _require_count(count: int, *, place: Place) -> None:
    if count > MAX_FIELDS:
        raise place.fault(InvalidSignatureError, f"more than {MAX_FIELDS} fields", breaks_limit=True)


def _require_length(text: str, *, place: Place) -> None:
    if len(text) > MAX_TEXT_CHARACTERS:
        reason = f"the text is longer than {MAX_TEXT_CHARACTERS} characters"
        raise place.fault(InvalidSignatureError, reason, breaks_limit=True)


class _Cursor:
    """A position in a text that moves over what the grammar allows next."""

    def __init__(self, text: str, *, place: Place) -> None:
        self._text = text
        self._position = 0
        self._place = place

    def read_field(self) -> tuple[str, Type]:
        written = self._match(_NAME)
        name = read_name(written.strip(), place=self._place, is_word=True)
        if not self.accept(":"):
            return name, STRING
        around = self._place
        self._place = around.of_field(name)
        node = require_value(self.read_type(), place=self._place)
        self._require_separator()
        self._place = around
        return name, node

    def read_type(self) -> Type:
        around = self._place
        self._place = around.inside()
        members = [self._read_post()]
        while self.accept("|"):
            members.append(self._read_post())
        self._place = around
        return members[0] if len(members) == 1 else union_of(members)

    def is_at_end(self) -> bool:
        return self._peek() == ""

    def require_end(self) -> None:
        if not self.is_at_end():
            raise self._unexpected()

    def accept(self, mark: str) -> bool:
        if self._peek() != mark:
            return False
        self._position += 1
        return True

    def _read_post(self) -> Type:
        node = self._read_prim()
        while self.accept("?"):
            node = nullable_of(node)
        return node

    def _read_prim(self) -> Type:
        if self.accept("("):
            node = self.read_type()
            self._require(")")
            return node
        self.accept(":")
        self._peek()
        word = self._match(_WORD)
        if not word:
            raise self._unexpected()
        return from_word(word, self._read_arguments(), place=self._place)

    def _read_arguments(self) -> list[Type] | None:
        opening = self._peek()
        if opening not in _CLOSING:
            return None
        self._position += 1
        arguments = [self.read_type()]
        while self.accept(","):
            arguments.append(self.read_type())
        self._require(_CLOSING[opening])
        return arguments

    def _require(self, mark: str) -> None:
        if not self.accept(mark):
            raise self._unexpected(f", expected `{mark}`")

    def _require_separator(self) -> None:
        if self._peek() not in ("", ","):
            raise self._unexpected()

    def _peek(self) -> str:
        self._match(_SPACES)
        return self._text[self._position : self._position + 1]

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            return ""
        self._position = found.end()
        return found.group()

    def _unexpected(self, expected: str = "") -> DefinitionError:
        rest = self._text[self._position :].strip()
        shown = quote(rest) if rest else "the end"
        reason = f"type {quote(self._text.strip())} is malformed at {shown}{expected}; {nearest(self._text.strip())}"
        return self._place.fault(UnknownTypeError, reason)
