"""What one job uses: LM calls, tokens, and what they cost.

The meter lives as long as one delivery, knows what earlier deliveries used, and stops the call that a budget does not
cover. `execution` puts it into a context variable, where the LM finds it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import BudgetExceededError


@dataclass(slots=True)
class Meter:
    """What one job has used.

    Attributes:
        max_calls: LM calls the job may make, over all its deliveries.
        calls_before: LM calls of earlier deliveries.
        cost_before: Known costs of earlier deliveries, in US dollars.
        is_unpriced: Whether any call so far has no known price; then the total is unknown.
        calls_now: LM calls of this delivery.
        cost_now: Known costs of this delivery, in US dollars.
        prompt_tokens: Prompt tokens of this delivery.
        completion_tokens: Completion tokens of this delivery.
        cache_hits: Answers that came from the cache: no calls, no cost.
    """

    max_calls: int
    calls_before: int = 0
    cost_before: float = 0.0
    is_unpriced: bool = False
    calls_now: int = 0
    cost_now: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_hits: int = 0
    _hits_at_begin: int = 0

    @property
    def calls(self) -> int:
        """LM calls of all deliveries."""
        return self.calls_before + self.calls_now

    @property
    def cost_usd(self) -> float | None:
        """Cost of all deliveries by DSPy's price estimate; None, never 0, where a price is unknown."""
        return None if self.is_unpriced else self.cost_before + self.cost_now

    @property
    def is_cached(self) -> bool:
        """Whether the call under way was answered from the cache."""
        return self.cache_hits > self._hits_at_begin

    def begin(self) -> None:
        """Count a call that is about to be made.

        Raises:
            BudgetExceededError: The job has made all the calls it may make.
        """
        if self.calls >= self.max_calls:
            raise BudgetExceededError(f"the job may make {self.max_calls} LM calls and has made them")
        self.calls_now += 1
        self._hits_at_begin = self.cache_hits

    def answered(self, usage: Mapping[str, Any], cost: float | None) -> None:
        """Add what the call under way used; an answer from the cache takes the call back."""
        if self.is_cached:
            self.calls_now -= 1
            return
        self.prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self.completion_tokens += int(usage.get("completion_tokens") or 0)
        self.is_unpriced = self.is_unpriced or cost is None
        self.cost_now += cost or 0.0

    def abandoned(self) -> None:
        """Note that the call under way was given up without an answer: the provider may bill it all the same."""
        self.is_unpriced = True

    def to_json(self) -> dict[str, Any]:
        """Return ``usage`` as the reply spells it."""
        return {
            "lm_calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
        }


METER: contextvars.ContextVar[Meter] = contextvars.ContextVar("dspex_meter")
