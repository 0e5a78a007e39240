"""What a check says: its name, a verdict, a sentence, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

CHECK_SECONDS = 5.0


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at; the same from run to run.
        verdict: How it is.
        sentence: What was found, for an operator.
        mend: What to do about it; empty where nothing is to be done.
    """

    name: str
    verdict: Verdict
    sentence: str
    mend: str = ""


def ok(name: str, sentence: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Verdict.OK, sentence)


def warning(name: str, sentence: str, mend: str) -> Check:
    """Return a check that found what may hurt later."""
    return Check(name, Verdict.WARNING, sentence, mend)


def error(name: str, sentence: str, mend: str) -> Check:
    """Return a check that found what hurts now."""
    return Check(name, Verdict.ERROR, sentence, mend)


def skipped(name: str, sentence: str, mend: str = "") -> Check:
    """Return a check that could not be made, with the reason."""
    return Check(name, Verdict.SKIPPED, sentence, mend)


async def bounded(
    name: str, look: Callable[[], Awaitable[Sequence[Check]]], *, seconds: float = CHECK_SECONDS
) -> list[Check]:
    """Make a check within its time; whatever goes wrong in it is its finding, and stops no other check."""
    try:
        async with asyncio.timeout(seconds):
            return list(await look())
    except TimeoutError:
        return [error(name, f"There was no answer within {seconds:g} seconds", "Look at the other checks of this side")]
    except Exception as fault:  # noqa: BLE001 - a check that fails must not hide the others
        return [error(name, f"The check failed: {type(fault).__name__}: {fault}", "Look at the other checks")]


def span(seconds: float) -> str:
    """Return a duration in words, in the largest unit that it has two of."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s"
