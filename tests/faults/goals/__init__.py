"""The goals, one module each, in the order of the table.

A new goal is a module here with a ``GOAL`` (`tests.faults.measured.Goal`), and its name in ``ORDER``.
"""

from __future__ import annotations

import importlib
from typing import Any

from tests.faults.measured import Goal

ORDER = (
    "worker_crash",
    "broker_crash",
    "not_paid_twice",
    "drain",
    "network",
    "back_pressure",
    "ack_timeout",
    "poison",
    "lm_trouble",
    "retry_timing",
    "replay",
    "store",
    "many_workers",
    "soak",
)


def all_goals() -> list[Goal[Any]]:
    """Return every goal, in the order of the table."""
    return [importlib.import_module(f"tests.faults.goals.{name}").GOAL for name in ORDER]
