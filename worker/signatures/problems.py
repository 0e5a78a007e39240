"""Keep what is told about a record small: a reply of problems must not be larger than what was wrong."""

from __future__ import annotations

from collections.abc import Iterable

from worker.errors import Problem

MAX_PROBLEMS = 100
MAX_PROBLEM_BYTES = 65_536
"""How long all problems of one record are together, paths and phrases."""

MAX_REASON_CHARACTERS = 1_000
_MAX_PATH_CHARACTERS = 4_000
_MAX_WORD_CHARACTERS = 64


def bounded(problems: Iterable[Problem]) -> list[Problem]:
    """Return the first problems, as many as fit; there is always one if there were any."""
    kept: list[Problem] = []
    left = MAX_PROBLEM_BYTES
    for problem in problems:
        cut = Problem(shorten(problem.path, most=_MAX_PATH_CHARACTERS), shorten(problem.problem))
        left -= len(f"{cut.path}{cut.problem}".encode("utf-8", "replace"))
        if len(kept) == MAX_PROBLEMS or left < 0:
            break
        kept.append(cut)
    return kept


def shorten(text: str, *, most: int = MAX_REASON_CHARACTERS) -> str:
    """Return a text of at most so many characters and an ellipsis."""
    return text if len(text) <= most else f"{text[:most]}…"


def shorten_word(word: str) -> str:
    """Return a name, made up by somebody else, for a sentence."""
    return shorten(word, most=_MAX_WORD_CHARACTERS)


def counted(sentences: list[str], *, most: int) -> list[str]:
    """Return the first sentences, and how many more there were."""
    more = len(sentences) - most
    return [*sentences[:most], f"and {more} more"] if more > 0 else sentences
