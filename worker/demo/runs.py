"""What became of one job of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One job and its answer.

    Attributes:
        name: The program, and what was special about the job.
        inputs: Input field → value.
        outputs: Output field → value; empty where the answer was an error.
        seconds: From sending the job to having its answer.
        problem: What was wrong with the answer, or None.
    """

    name: str
    inputs: Mapping[str, Any]
    seconds: float
    outputs: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
