"""Each goal in its short form; ``make chaos`` runs the long one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.goals import all_goals
from tests.faults.measured import Goal
from tests.faults.stage import broker_node, lend


@pytest.fixture(scope="module", autouse=True)
def shared_node() -> Iterator[None]:
    """A broker for the goals that leave it alone."""
    with broker_node() as node, lend(node):
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    "goal", [pytest.param(goal, id=goal.key, marks=pytest.mark.timeout(goal.timeout_seconds)) for goal in all_goals()]
)
async def test_the_goal_is_reached(goal: Goal[Any]) -> None:
    """The seed comes from pytest-randomly, whose own seed is printed and can be given."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    measured = await goal.run(goal.short, seed=seed)
    print(measured.words())

    assert measured.reason is None
