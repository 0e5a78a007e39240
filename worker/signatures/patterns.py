r"""Regular expressions from the wire, run by pydantic's Rust engine only.

That engine is linear in the text and has no lookaround and no backreferences; Python's own can be made to run for years.
Its one weak spot is compiling: a repeated Unicode class such as ``\w{100}`` takes tens of milliseconds and megabytes. So the
size of what is compiled is estimated first, and the compiled patterns that are kept are bounded by it.

See Also:
    https://docs.rs/regex/latest/regex/#untrusted-input
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter
from threading import Lock

from cachetools import LRUCache
from pydantic_core import SchemaError, SchemaValidator, core_schema

_WIDE_COST = 400
_DIGIT_COST = 35
_CLASS_COST = 4
_LEAST_COST = 500
_MAX_KEPT_COST = 150_000
_MAX_COST = 10**9

_TOKEN = re.compile(
    r"\\[pP](?:\{[^}]*\}|.)?|\\[wW]"  # a Unicode class
    r"|\\[dDsSbB]"  # a smaller one
    r"|\\x\{[^}]*\}|\\u\{[^}]*\}|\\U\{[^}]*\}|\\."
    r"|\{\s*\d*\s*(?:,\s*\d*\s*)?\}"  # a counted repetition
    r"|.",
    re.DOTALL,
)
# One part at the start and no other: after each character there is one way to go on.
_IS_ONE_PART = re.compile(r"\^(?:\[\^?[^\[\]\\]+\]|\\[wWdDsS]|\.)(?:\{[\d, ]*\}|[*+?])?\$?")
_VERBOSE = re.compile(r"\(\?[a-zA-Z-]*x")
_DIGITS = re.compile(r"\d+")

_Kept = tuple[SchemaValidator, int]
_compiled: LRUCache[str, _Kept] = LRUCache(_MAX_KEPT_COST, getsizeof=itemgetter(1))
_lock = Lock()


def is_found(pattern: str, text: str) -> bool:
    """Say whether a pattern, one that was accepted before, is found anywhere in a text that has no lone surrogates."""
    return compile_pattern(pattern).isinstance_python(text)


def compile_pattern(pattern: str) -> SchemaValidator:
    """Return what checks texts against a pattern.

    Raises:
        ValueError: The engine refuses the pattern.
    """
    with _lock:
        known = _compiled.get(pattern)
    return known[0] if known is not None else _compile(pattern)


def cost_of(pattern: str) -> int:
    r"""Estimate the size of a compiled pattern: 1 per character, 4 per ``.``, 35 per ``\\d``, 400 per ``\\w``, times repetitions.

    A unit takes about 2 µs to compile, and 300 bytes. Never far too low; patterns with the ``x`` flag, whose comments
    could hide anything, cost more than any budget.
    """
    if _VERBOSE.search(pattern):
        return _MAX_COST
    return _Estimate(pattern).total()


@lru_cache(maxsize=4_096)
def count_positions(pattern: str) -> int:
    """Return at how many places of a pattern the engine may be at once, which is what a character may cost it.

    Counted repetitions count as often as they may come; a class is one place, however wide. At each place a character
    takes about 40 ns.
    """
    if _IS_ONE_PART.fullmatch(pattern):
        return 1
    return max(1, _Estimate(pattern, is_flat=True).total())


def _compile(pattern: str) -> SchemaValidator:
    try:
        made = SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError as error:
        raise ValueError(_first_reason(str(error))) from None
    with _lock:
        _compiled[pattern] = (made, min(max(cost_of(pattern), _LEAST_COST), _MAX_KEPT_COST))
    return made


def _first_reason(text: str) -> str:
    """Return the engine's own words without the picture of the pattern."""
    reasons = [line.partition("error:")[2].strip() for line in text.splitlines() if line.strip().startswith("error:")]
    return reasons[0] if reasons else text.splitlines()[-1].strip().removeprefix("SchemaError: ")


class _Estimate:
    """A scan over a pattern that adds up what it compiles to."""

    def __init__(self, pattern: str, *, is_flat: bool = False) -> None:
        self._pattern = pattern
        self._is_flat = is_flat
        self._position = 0
        self._groups = [0]
        self._last = 0

    def total(self) -> int:
        while self._position < len(self._pattern):
            self._take()
        return min(sum(self._groups), _MAX_COST)

    def _take(self) -> None:
        found = _TOKEN.match(self._pattern, self._position)
        mark = found.group() if found else " "
        self._position += len(mark)
        if mark == "(":
            self._groups.append(0)
            self._last = 0
        elif mark == ")" and len(self._groups) > 1:
            self._last = self._groups.pop()
            self._add(self._last)
        elif mark[0] == "{":
            self._repeat(mark)
        elif mark not in _FREE:
            cost = self._read_class() if mark == "[" else _atom_cost(mark)
            self._last = 1 if self._is_flat else cost
            self._add(self._last)

    def _repeat(self, mark: str) -> None:
        times = max(1, *(int(digits[:10]) for digits in _DIGITS.findall(mark)), 0)
        self._add(self._last * (times - 1))
        self._last = min(self._last * times, _MAX_COST)

    def _add(self, cost: int) -> None:
        self._groups[-1] = min(self._groups[-1] + cost, _MAX_COST)

    def _read_class(self) -> int:
        """Return the cost of a class in brackets, and move behind it; brackets may stand inside brackets."""
        start, depth = self._position, 1
        while self._position < len(self._pattern) and depth:
            mark = self._pattern[self._position]
            is_first = self._pattern[start : self._position] in ("", "^")
            self._position += 2 if mark == "\\" else 1
            depth += (mark == "[") - (mark == "]" and not is_first)
        inside = self._pattern[start : self._position]
        wide = sum(inside.count(mark) for mark in _WIDE)
        digits = inside.count("\\d") + inside.count("\\D") + inside.count("[:") * 10
        open_cost = _CLASS_COST * 2 if "^" in inside or not inside.isascii() or "\\" in inside else 0
        return 1 + _WIDE_COST * wide + _DIGIT_COST * digits + open_cost


# Repetitions without a count compile to one copy; what stands before them may still be counted.
_FREE = frozenset("*+?|^$")
_WIDE = ("\\w", "\\W", "\\p", "\\P")


def _atom_cost(mark: str) -> int:
    if mark[:2] in _WIDE:
        return _WIDE_COST
    if mark in ("\\d", "\\D"):
        return _DIGIT_COST
    if mark in (".", "\\s", "\\S", "\\b", "\\B"):
        return _CLASS_COST
    return 1
