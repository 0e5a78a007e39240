"""When a job runs again after LM trouble that may pass, and when it ends instead: decisions, no actions.

=================================== ===================================================== ===========================
The job                             waits                                                 ends when
=================================== ===================================================== ===========================
failed, the LM's circuit is closed  the *n*-th step after attempt *n*, or the first that  attempts, age or deadline
                                    is not shorter than ``Retry-After``                   are used up, or the ladder
                                                                                          is too short
found the circuit open, or opened   1, 5, 30 seconds: the steps up to 30 s, then the      age or deadline are used up
it                                  largest of them; a shorter one where time runs out
=================================== ===================================================== ===========================

See Also:
    docs/RELIABILITY.md, "Retries and clocks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from worker.errors import TransientLMError
from worker.settings import Settings

_LONGEST_HOP_MS = 30_000


def hop(ladder_ms: Sequence[int], hops: int) -> int:
    """Return the step of a job that waits for something else than itself.

    Args:
        ladder_ms: Steps of the delay ladder, ascending; those up to 30 seconds are used, or the first.
        hops: How many steps up; the last of them is the longest wait.
    """
    short = [step for step in ladder_ms if step <= _LONGEST_HOP_MS] or ladder_ms[:1]
    return short[min(hops, len(short) - 1)]


@dataclass(frozen=True, slots=True)
class Retries:
    """The rules of one worker.

    Attributes:
        ladder_ms: Steps of the delay ladder, ascending.
        max_attempts: Runs that reached the LM before a job ends.
        max_age_ms: A job's age, from its first delivery.
    """

    ladder_ms: tuple[int, ...]
    max_attempts: int
    max_age_ms: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the rules that the settings make."""
        return cls(settings.delays_ms, settings.max_attempts, round(settings.max_age_seconds * 1_000))

    def left_ms(self, *, now_ms: int, first_delivered_ms: int, deadline_ms: int | None) -> int:
        """Return the milliseconds within which a job's next run must begin; negative where they are over."""
        old_ms = first_delivered_ms + self.max_age_ms
        return (old_ms if deadline_ms is None else min(old_ms, deadline_ms)) - now_ms

    def next_step(self, error: TransientLMError, *, attempts: int, waits: int, left_ms: int) -> int | None:
        """Return the step of the ladder that a job takes, or None where it ends now.

        Args:
            error: What went wrong.
            attempts: Runs that reached the LM, this one included.
            waits: Hops so far that were no attempt.
            left_ms: See `left_ms`.
        """
        if error.is_circuit_open:
            return self.hop(max(attempts - 1, 0) + waits, left_ms=left_ms)
        wanted_ms = max(error.retry_after_ms or 0, self._step(attempts))
        step_ms = next((step for step in self.ladder_ms if step >= wanted_ms), None)
        if step_ms is None or attempts >= self.max_attempts or step_ms > left_ms:
            return None
        return step_ms

    def hop(self, hops: int, *, left_ms: int) -> int | None:
        """Return the step of a job that waits for something else than itself, or None where its time is over.

        Args:
            hops: Times that it went back to the ladder so far; the steps grow with them, up to 30 seconds.
            left_ms: See `left_ms`.
        """
        steps = (hop(self.ladder_ms, number) for number in range(min(hops, len(self.ladder_ms)), -1, -1))
        return next((step for step in steps if step <= left_ms), None)

    def _step(self, attempts: int) -> int:
        return self.ladder_ms[min(max(attempts, 1), len(self.ladder_ms)) - 1]
