"""A measured figure and what it is held against."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["ok", "over", "–"]


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure may be at most, or must be at least.

    Attributes:
        limit: In the figure's unit.
        is_minimum: Whether more is better.
    """

    limit: float
    is_minimum: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a value is within the bound."""
        return value >= self.limit if self.is_minimum else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {self.limit:,g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        name: What was measured.
        value: The figure, a median where it was taken more than once.
        unit: Its unit; empty for a ratio.
        bound: The budget of the project, or None for a figure that explains another one.
        note: What one must know to read it, e.g. the spread.
        details: Name → number, for the JSON only.
    """

    name: str
    value: float
    unit: str = ""
    bound: Bound | None = None
    note: str = ""
    details: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """How the figure stands to its bound."""
        if self.bound is None:
            return "–"
        return "ok" if self.bound.holds(self.value) else "over"


def at_most(limit: float) -> Bound:
    """Return the bound of a figure that should be small."""
    return Bound(limit)


def at_least(limit: float) -> Bound:
    """Return the bound of a figure that should be large."""
    return Bound(limit, is_minimum=True)


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value below which ``percent`` of all values lie, 1–99."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def spread(values: Sequence[float], unit: str = "") -> str:
    """Write the smallest and the largest value of all rounds."""
    return f"{min(values):.3g}–{max(values):.3g}{unit and ' '}{unit} in {len(values)} rounds"
