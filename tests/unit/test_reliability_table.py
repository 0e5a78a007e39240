"""The table of measured goals says what was measured, and nothing else."""

from __future__ import annotations

from tests.faults.goals import all_goals
from tests.faults.report import read_record, read_table, render


def test_the_table_of_measured_goals_is_the_record() -> None:
    """Nobody writes a figure by hand."""
    assert render(read_record()) == read_table()


def test_every_measured_goal_is_one_of_the_suite() -> None:
    """A goal that is gone takes its figures along."""
    assert read_record().keys() <= {goal.key for goal in all_goals()}
