"""What a goal is, and what measuring it gives."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

Size = TypeVar("Size")
Size_contra = TypeVar("Size_contra", contravariant=True)
Figure = int | float | str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a goal came to.

    Attributes:
        figures: Name → number, in the order in which they are shown.
        reason: Why it did not pass; None where it did.
    """

    figures: Mapping[str, Figure] = field(default_factory=dict)
    reason: str | None = None

    @property
    def is_passed(self) -> bool:
        """Whether the goal was reached."""
        return self.reason is None

    def words(self) -> str:
        """Return the figures as one line."""
        return ", ".join(f"{name} {_number(figure)}" for name, figure in self.figures.items())


class MissedError(AssertionError):
    """A goal was missed on the way; what was measured until then is not lost.

    Args:
        reason: Which promise was broken.
        figures: Name → number, as far as they are known.
    """

    def __init__(self, reason: str, *, figures: Mapping[str, Figure]) -> None:
        super().__init__(reason)
        self.figures = dict(figures)


def missed(error: Exception, *, seconds: float) -> Measured:
    """Return what is known of a goal whose run ended with an error after so many seconds."""
    figures = error.figures if isinstance(error, MissedError) else {}
    text = str(error)
    is_told = isinstance(error, AssertionError) and text
    reason = (
        text if is_told else f"{type(error).__name__}{': ' if text else ''}{text} after {seconds:.0f} s{_where(error)}"
    )
    return Measured(figures | {"seconds": seconds}, reason)


@contextmanager
def keeping(figures: Mapping[str, Figure]) -> Iterator[None]:
    """Keep what was measured so far when the block misses the goal, together with what the error brings along.

    Raises:
        MissedError: The block raised.
    """
    try:
        yield
    except Exception as error:
        rest = missed(error, seconds=0)
        found = {name: figure for name, figure in rest.figures.items() if name != "seconds"}
        raise MissedError(rest.reason or "", figures={**figures, **found}) from error


def _where(error: Exception) -> str:
    """Say which step of the suite an error came from: the innermost one that is not a library's."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if "/tests/faults/" in step.filename]
    return f", in {steps[-1].name} ({Path(steps[-1].filename).name}:{steps[-1].lineno})" if steps else ""


class Run(Protocol[Size_contra]):
    """Measures a goal; it may raise AssertionError where it is not reached."""

    async def __call__(self, size: Size_contra, *, seed: int) -> Measured: ...


class Words(Protocol[Size_contra]):
    """Says what is done, from the size."""

    def __call__(self, size: Size_contra) -> str: ...


@dataclass(frozen=True, slots=True)
class Goal(Generic[Size]):
    """One row of the table of goals.

    Attributes:
        name: First column.
        load: Second column: load and fault, from the size.
        passes: Third column: when it is reached.
        short: Size for `make test`: 10 to 15 seconds on two cores.
        long: Size for `make chaos`: what the table asks for.
        run: Measures it.
        timeout_seconds: For the short form.
    """

    name: str
    load: Words[Size]
    passes: str
    short: Size
    long: Size
    run: Run[Size]
    timeout_seconds: float = 90

    @property
    def key(self) -> str:
        """What ``--only`` names it by."""
        return self.name.replace(" ", "-")


def _number(figure: Figure) -> str:
    if isinstance(figure, float):
        return f"{figure:,.3g}" if figure < 1_000 else f"{figure:,.0f}"
    return f"{figure:,}" if isinstance(figure, int) else figure


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that so large a share of them does not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0
