"""A goal that is missed says why, keeps what it measured, and lets the next ones go on."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

import pytest

from tests.faults.__main__ import _measure
from tests.faults.measured import Goal, Measured, MissedError, keeping

_HERE = r"in run \(test_measured\.py:\d+\)"


@dataclass(frozen=True)
class Size:
    """Nothing to choose."""


def goal_raising(error: Exception) -> Goal[Size]:
    """Return a goal whose run ends so, after it has counted three jobs."""

    async def run(size: Size, *, seed: int) -> Measured:
        with keeping({"jobs": 3}):
            raise error

    return Goal("one", lambda size: "load", "passes", Size(), Size(), run)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError("two jobs were lost"), "two jobs were lost"),
        (KeyError("m7"), f"KeyError: 'm7' after 0 s, {_HERE}"),
        (TimeoutError(), f"TimeoutError after 0 s, {_HERE}"),
        (MissedError("one was lost", figures={"lost": 1}), "one was lost"),
    ],
)
async def test_whatever_a_goal_raises_is_its_reason(error: Exception, reason: str) -> None:
    """What was counted before stands beside it, and what the error itself has counted."""
    options = argparse.Namespace(long=False, minutes=None, seed=1)
    measured = await _measure(goal_raising(error), options)

    assert re.fullmatch(reason, measured.reason or "")
    assert measured.figures["jobs"] == 3
    assert measured.figures.get("lost", 0) == getattr(error, "figures", {}).get("lost", 0)
