"""Each goal in its short form; ``make chaos`` runs the long one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.goals import all_goals
from tests.faults.measured import Goal
from tests.faults.stage import Stage, lend


@pytest.fixture(scope="module", autouse=True)
def shared_node(stage: Stage) -> Iterator[None]:
    """A broker for the goals that leave it alone."""
    with lend(stage.node):
        yield


# What a goal that is late needs to end its workers and its broker.
_ENDING_SECONDS = 120


@pytest.mark.slow
@pytest.mark.parametrize(
    "goal",
    [
        pytest.param(goal, id=goal.key, marks=pytest.mark.timeout(goal.timeout_seconds + _ENDING_SECONDS))
        for goal in all_goals()
    ],
)
async def test_the_goal_is_reached(goal: Goal[Any]) -> None:
    """The seed comes from pytest-randomly, whose own seed is printed and can be given."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    async with asyncio.timeout(goal.timeout_seconds):
        measured = await goal.run(goal.short, seed=seed)
    print(measured.words())

    assert measured.reason is None
