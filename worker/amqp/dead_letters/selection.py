"""Which dead letters are meant."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from worker.amqp.dead_letters.letters import DeadLetterView

# Nobody waits any more for a job that is past its time, so it is only taken by somebody who says so.
EXPIRED_CODES = frozenset(("expired", "broker:expired"))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: those that match all of it; an empty part matches every letter.

    Attributes:
        codes: Codes, any of them; ``expired`` is also what the broker calls so.
        not_codes: Codes, none of them; ``expired`` is also what the broker calls so.
        programs: Program ids, any of them.
        lms: LM aliases, any of them; a letter that tells no LM does not match.
        message_ids: Any of them.
        tenant: Whose jobs; None for everybody's.
        failed_before_ms: Unix milliseconds; a letter that does not tell its time does not match.
        failed_after_ms: As above.
        has_expired: Whether letters that only expired are meant too.
    """

    codes: Collection[str] = ()
    not_codes: Collection[str] = ()
    programs: Collection[str] = ()
    lms: Collection[str] = ()
    message_ids: Collection[str] = ()
    tenant: str | None = None
    failed_before_ms: int | None = None
    failed_after_ms: int | None = None
    has_expired: bool = False

    def takes(self, letter: DeadLetterView) -> bool:
        """Tell whether a letter is meant."""
        return self.matches(letter) and (self._asks_for_expired or not is_expired(letter))

    def matches(self, letter: DeadLetterView) -> bool:
        """Tell whether a letter is meant, or would be if expired ones were asked for."""
        return (
            self._takes_code(letter)
            and (not self.programs or letter.program_id in self.programs)
            and (not self.lms or letter.lm in self.lms)
            and (not self.message_ids or letter.message_id in self.message_ids)
            and (self.tenant is None or letter.tenant == self.tenant)
            and self._takes_time(letter.first_failed_ms)
        )

    @property
    def _asks_for_expired(self) -> bool:
        return self.has_expired or not EXPIRED_CODES.isdisjoint(self.codes)

    def _takes_code(self, letter: DeadLetterView) -> bool:
        is_meant = not self.codes or _is_among(letter, self.codes)
        return is_meant and not _is_among(letter, self.not_codes)

    def _takes_time(self, failed_ms: int | None) -> bool:
        if self.failed_before_ms is None and self.failed_after_ms is None:
            return True
        if failed_ms is None:
            return False
        is_early = self.failed_before_ms is None or failed_ms < self.failed_before_ms
        return is_early and (self.failed_after_ms is None or failed_ms > self.failed_after_ms)


def is_expired(letter: DeadLetterView) -> bool:
    """Tell whether a job did not fail, but only came too late."""
    return letter.code in EXPIRED_CODES


def _is_among(letter: DeadLetterView, codes: Collection[str]) -> bool:
    return letter.code in codes or (is_expired(letter) and "expired" in codes)


EVERYTHING = Selection(has_expired=True)
EVERYTHING_THAT_FAILED = Selection()
