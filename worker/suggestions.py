"""Suggest the known name that a misspelt one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_CHARACTERS = 64


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known name most like a word, or None where none is like it.

    Args:
        word: As sent; only its first 64 characters are compared.
        known: The names that there are.
        cutoff: How alike the two must be, from 0 to 1.

    See Also:
        https://docs.python.org/3/library/difflib.html#difflib.get_close_matches: the measure.
    """
    matches = difflib.get_close_matches(word[:_MAX_CHARACTERS], list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.7) -> str:
    """Return ``; did you mean `name`?`` to end a sentence with, or an empty text; arguments as in `nearest`."""
    name = nearest(word, known, cutoff=cutoff)
    return f"; did you mean `{name}`?" if name else ""
