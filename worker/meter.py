"""What one job uses: LM calls, tokens, and what they cost.

The meter lives as long as one delivery, knows what earlier deliveries used, and stops the call that a budget does not
cover. `execution` puts it into a context variable, where the LM finds it.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import BudgetExceededError

# A job may go over its cost by the call in flight: that is the one which a killed worker takes along.
_LOST_CALLS_FORGIVEN = 1


@dataclass(slots=True)
class Meter:
    """What one job has used.

    Attributes:
        max_calls: LM calls the job may make, over all its deliveries.
        deadline_ms: Unix milliseconds after which no further call is begun, or None.
        max_cost_usd: What the job may cost, over all its deliveries, in US dollars; None for no bound.
        calls_before: LM calls of earlier deliveries.
        calls_lost: Calls that a worker may have made before it died: one for each crash or stop. They count against the
            budget of calls; what they cost is not known.
        cost_before: Known costs of earlier deliveries, in US dollars.
        is_unpriced: Whether any call so far has no known price; then the total is unknown.
        tenant: Whose job it is; empty where tenancy is off.
        calls_now: LM calls of this delivery.
        cost_now: Known costs of this delivery, in US dollars.
        prompt_tokens: Prompt tokens of this delivery.
        completion_tokens: Completion tokens of this delivery.
        cache_hits: Answers that came from the cache: no calls, no cost.
        is_cut: Whether the last answer ended at the limit of answer tokens.
        is_refused: Whether the provider held the last answer back.
    """

    max_calls: int
    deadline_ms: int | None = None
    max_cost_usd: float | None = None
    calls_before: int = 0
    calls_lost: int = 0
    cost_before: float = 0.0
    is_unpriced: bool = False
    tenant: str = ""
    calls_now: int = 0
    cost_now: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_hits: int = 0
    is_cut: bool = False
    is_refused: bool = False
    _hits_at_begin: int = 0

    @property
    def calls(self) -> int:
        """LM calls of all deliveries."""
        return self.calls_before + self.calls_now

    @property
    def cost_usd(self) -> float | None:
        """Cost of all deliveries by DSPy's price estimate; None, never 0, where a price is unknown."""
        return None if self.is_unpriced or self.calls_lost else self.cost_before + self.cost_now

    @property
    def is_cached(self) -> bool:
        """Whether the call under way was answered from the cache."""
        return self.cache_hits > self._hits_at_begin

    @property
    def is_late(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self.late_ms > 0

    @property
    def late_ms(self) -> int:
        """Milliseconds since the caller's deadline; 0 where it has not passed, or there is none."""
        return 0 if self.deadline_ms is None else max(time.time_ns() // 1_000_000 - self.deadline_ms, 0)

    @property
    def may_go_on(self) -> bool:
        """Whether another call of this run makes sense: it is paid for, and somebody waits for it."""
        return self.exhausted is None and not self.is_late

    @property
    def exhausted(self) -> str | None:
        """Which budget is used up, as a sentence, or None."""
        if self.calls + self.calls_lost >= self.max_calls:
            return f"the job may make {self.max_calls} LM calls and has made them"
        if self.max_cost_usd is None:
            return None
        if self.is_unpriced or self.calls_lost > _LOST_CALLS_FORGIVEN:
            return f"the job may cost {self.max_cost_usd} USD, and the price of an LM call it made is not known"
        cost_usd = self.cost_before + self.cost_now
        if cost_usd >= self.max_cost_usd:
            return f"the job may cost {self.max_cost_usd} USD and has cost {cost_usd:.6f}"
        return None

    def begin(self) -> None:
        """Count a call that is about to be made.

        Raises:
            BudgetExceededError: The job has used its calls or its money.
        """
        reason = self.exhausted
        if reason is not None:
            raise BudgetExceededError(reason)
        self.calls_now += 1
        self._hits_at_begin = self.cache_hits

    def answered(
        self, usage: Mapping[str, Any], cost: float | None, *, is_cut: bool = False, is_refused: bool = False
    ) -> None:
        """Add what the call under way used; an answer from the cache takes the call back."""
        self.is_cut, self.is_refused = is_cut, is_refused
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
