"""The retry rules: which step a job takes after LM trouble, and when it ends instead."""

from __future__ import annotations

import pytest

from tests.support.left_hand import make_settings
from worker.errors import LMAuthError, LMRateLimitedError, LMUnavailableError, TransientLMError
from worker.retries import Retries, hop

LADDER = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
LONG_MS = 7_200_000
RULES = Retries(LADDER, max_attempts=7, max_age_ms=LONG_MS)


def down(error: TransientLMError | None = None) -> TransientLMError:
    """Return an error of an LM whose circuit is open."""
    error = error or LMAuthError("no key")
    error.is_circuit_open = True
    return error


def step(
    error: TransientLMError, *, attempts: int = 1, waits: int = 0, left_ms: int = LONG_MS, rules: Retries = RULES
) -> int | None:
    return rules.next_step(error, attempts=attempts, waits=waits, left_ms=left_ms)


def test_the_rules_are_those_of_the_settings() -> None:
    """Seconds there, milliseconds here."""
    rules = Retries.of(make_settings(delays_seconds="0.2,1", max_attempts=3, max_age_seconds=60))

    assert rules == Retries((200, 1_000), max_attempts=3, max_age_ms=60_000)


# The circuit is closed


def test_each_attempt_waits_one_step_longer() -> None:
    """Until none is left."""
    steps = [step(LMUnavailableError("down"), attempts=attempts) for attempts in range(1, 8)]

    assert steps == [*LADDER, None]


def test_more_attempts_than_steps_wait_the_longest() -> None:
    """The ladder may be shorter than the attempts."""
    rules = Retries((200, 500), max_attempts=7, max_age_ms=LONG_MS)

    assert [step(LMUnavailableError("down"), attempts=n, rules=rules) for n in (2, 3, 6)] == [500, 500, 500]


@pytest.mark.parametrize(
    ("retry_after_ms", "expected"),
    [(None, 1_000), (0, 1_000), (1_001, 5_000), (3_600_000, 3_600_000), (3_600_001, None)],
)
def test_the_providers_hint_is_kept_or_the_job_ends(retry_after_ms: int | None, expected: int | None) -> None:
    """Nothing on the broker waits longer than the ladder."""
    assert step(LMRateLimitedError("slow down", retry_after_ms=retry_after_ms)) == expected


@pytest.mark.parametrize(("left_ms", "expected"), [(1_000, 1_000), (999, None), (-1, None)])
def test_a_job_whose_time_ends_before_the_step_ends_now(left_ms: int, expected: int | None) -> None:
    """The caller hears the reason while it still listens."""
    assert step(LMUnavailableError("down"), left_ms=left_ms) == expected


@pytest.mark.parametrize(
    ("deadline_ms", "expected"), [(None, LONG_MS - 500), (1_600, 100), (1_400, -100), (10 * LONG_MS, LONG_MS - 500)]
)
def test_a_job_has_until_its_age_or_its_deadline(deadline_ms: int | None, expected: int) -> None:
    """Whichever comes first."""
    assert RULES.left_ms(now_ms=1_500, first_delivered_ms=1_000, deadline_ms=deadline_ms) == expected


@pytest.mark.parametrize(("hops", "expected"), [(0, 1_000), (1, 5_000), (2, 30_000), (9, 30_000)])
def test_what_waits_for_others_takes_short_steps(hops: int, expected: int) -> None:
    """The longest of them is soon over, too."""
    assert hop(LADDER, hops) == expected


# The circuit is open


def test_hops_grow_to_thirty_seconds_and_no_further() -> None:
    """The LM may answer again any moment."""
    assert [step(down(), attempts=0, waits=waits) for waits in range(5)] == [1_000, 5_000, 30_000, 30_000, 30_000]


def test_attempts_do_not_end_a_job_while_the_circuit_is_open() -> None:
    """However many it has had."""
    assert step(down(), attempts=70) == 30_000


def test_a_hint_does_not_end_it_either() -> None:
    """The hop asks nobody."""
    error = down(LMUnavailableError("maintenance", retry_after_ms=86_400_000))

    assert step(error) == 1_000


@pytest.mark.parametrize(
    ("left_ms", "expected"),
    [(30_000, 30_000), (29_999, 5_000), (4_999, 1_000), (1_000, 1_000), (999, None), (-1, None)],
)
def test_a_job_hops_until_its_time_is_used_up(left_ms: int, expected: int | None) -> None:
    """A shorter step is better than an early end."""
    assert step(down(), attempts=3, waits=9, left_ms=left_ms) == expected


def test_a_ladder_without_short_steps_has_its_first() -> None:
    """There is nothing shorter."""
    rules = Retries((60_000, 120_000), max_attempts=7, max_age_ms=LONG_MS)

    assert step(down(), waits=5, rules=rules) == 60_000
