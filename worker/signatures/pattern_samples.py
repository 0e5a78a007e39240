"""Make up texts in which a pattern is found.

Reads the part of the syntax that people write: literals, classes, groups, alternatives, repetitions, anchors. What it makes
is only a proposal, which the engine checks afterwards; so a pattern read wrongly costs a sample and never gives a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

Make = Callable[[Random], str]
"""Makes one text."""

_MAX_PARTS = 400
_USUAL_REPEATS = 3
_PRINTABLE = "".join(map(chr, range(32, 127)))
_LOWER, _UPPER, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_WORD = f"{_LOWER}{_UPPER}{_DIGITS}_"
_KINDS = {"d": _DIGITS, "w": _WORD, "s": " ", "D": _LOWER, "W": " -", "S": _LOWER}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_ANCHORS = frozenset("AzbB")
_PROPERTIES = {"L": _LOWER, "Ll": _LOWER, "Lu": _UPPER, "N": _DIGITS, "Nd": _DIGITS, "P": "!,-.?", "Z": " ", "Zs": " "}
_PROPERTY = re.compile(r"\{(\w+)\}|(\w)")
_COUNTS = re.compile(r"\{\s*(\d+)\s*(,)?\s*(\d+)?\s*\}")
_GROUP = re.compile(r"\?(?:P?<\w+>|[a-zA-Z]*:)")
_FLAGS = re.compile(r"\?[a-zA-Z]+\)")
_HEX = re.compile(r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{2,4})")


def read_pattern(pattern: str) -> Make:
    """Return what makes texts in which the pattern is likely to be found.

    Raises:
        ValueError: The pattern has something that is not read here.
    """
    reader = _Reader(pattern)
    make = reader.read_alternatives()
    if reader.rest():
        raise _unread(reader.rest())
    return make


class _Reader:
    """A position in a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._parts = 0

    def rest(self) -> str:
        return self._pattern[self._position :]

    def read_alternatives(self) -> Make:
        options = [self._read_sequence()]
        while self._accept("|"):
            options.append(self._read_sequence())
        return lambda source: source.choice(options)(source)

    def _read_sequence(self) -> Make:
        parts: list[Make] = []
        while self.rest() and self._peek() not in "|)":
            parts.append(self._read_repeated())
        return lambda source: "".join(part(source) for part in parts)

    def _read_repeated(self) -> Make:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise ValueError("the pattern is too long to make an example")
        make = self._read_atom()
        while (counts := self._read_counts()) is not None:
            make = _repeat(make, *counts)
        return make

    def _read_atom(self) -> Make:
        mark = self._take()
        if mark == "(":
            return self._read_group()
        if mark == "[":
            return _one_of(self._read_class())
        if mark == "\\":
            return self._read_escape()
        if mark in "^$":
            return _fixed("")
        if mark in "*+?{":
            raise _unread(mark)
        return _one_of(_LOWER) if mark == "." else _fixed(mark)

    def _read_group(self) -> Make:
        flags = self._match(_FLAGS)
        if flags is not None:
            return _fixed("")
        if self._peek() == "?" and self._match(_GROUP) is None:
            raise _unread(self.rest())
        make = self.read_alternatives()
        if not self._accept(")"):
            raise _unread("(")
        return make

    def _read_escape(self) -> Make:
        mark = self._peek()
        if mark in _ANCHORS:
            self._take()
            return _fixed("")
        return _one_of(self._read_escaped())

    def _read_escaped(self) -> str:
        """Return the characters that an escape stands for."""
        mark = self._take()
        if mark in _KINDS:
            return _KINDS[mark]
        if mark in "pP":
            name = self._read_name(_PROPERTY)
            inside = _PROPERTIES.get(name) or _PROPERTIES.get(name[:1], _LOWER)
            return inside if mark == "p" else _all_but(inside)
        if mark in "xuU":
            return chr(int(self._read_name(_HEX), 16))
        if mark.isalnum() and mark not in _ESCAPES:
            raise _unread(f"\\{mark}")
        return _ESCAPES.get(mark, mark)

    def _read_name(self, pattern: re.Pattern[str]) -> str:
        found = self._match(pattern)
        if found is None:
            raise _unread(self.rest())
        return found.group(1) or found.group(2)

    def _read_class(self) -> str:
        is_negated = self._accept("^")
        characters = self._take() if self._peek() == "]" else ""
        while not self._accept("]"):
            characters += self._read_range()
        if is_negated:
            characters = _all_but(characters)
        if not characters:
            raise _unread("[")
        return characters

    def _read_range(self) -> str:
        mark = self._take()
        if mark == "[":
            raise _unread("[")
        first = self._read_escaped() if mark == "\\" else mark
        is_range = len(first) == 1 and self._peek() == "-" and self._pattern[self._position + 1 :][:1] not in ("]", "")
        if not is_range:
            return first
        self._take()
        mark = self._take()
        last = self._read_escaped() if mark == "\\" else mark
        return "".join(map(chr, range(ord(first), min(ord(last), ord(first) + 200) + 1)))

    def _read_counts(self) -> tuple[int, int] | None:
        counts = _SHORT_COUNTS.get(self._peek())
        if counts is not None:
            self._take()
        elif (found := self._match(_COUNTS)) is not None:
            low = int(found.group(1))
            high = int(found.group(3)) if found.group(3) else low + (_USUAL_REPEATS if found.group(2) else 0)
            counts = (low, min(high, low + _USUAL_REPEATS))
        return counts

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self) -> str:
        mark = self._peek()
        if not mark:
            raise _unread("the end")
        self._position += 1
        return mark

    def _accept(self, mark: str) -> bool:
        if self._peek() != mark:
            return False
        self._position += 1
        return True

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._pattern, self._position)
        if found is not None:
            self._position = found.end()
        return found


_SHORT_COUNTS = {"*": (0, _USUAL_REPEATS), "+": (1, _USUAL_REPEATS), "?": (0, 1)}


def _repeat(make: Make, low: int, high: int) -> Make:
    return lambda source: "".join(make(source) for _ in range(source.randint(low, high)))


def _all_but(characters: str) -> str:
    return "".join(one for one in _PRINTABLE if one not in characters)


def _one_of(characters: str) -> Make:
    return lambda source: source.choice(characters)


def _fixed(text: str) -> Make:
    return lambda _source: text


def _unread(what: str) -> ValueError:
    return ValueError(f"the pattern has a part that no example is made for: {what[:20]}")
