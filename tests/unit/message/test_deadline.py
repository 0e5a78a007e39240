"""Deadlines of senders whose clocks are wrong, and of jobs that have waited for long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.left_hand import make_job
from worker.errors import ExpiredError, InvalidRequestError
from worker.message import Job, Trail, check_deadline, resume_deadline, set_deadline
from worker.message.deadline import span

NOW = 1_800_000_000_000
MINUTE = 60_000


def sent(deadline_ms: int | None, *, timeout_ms: object = MINUTE, **properties: Any) -> Job:
    """Return a job of a sender that gives up after a minute."""
    headers = {"x-dspex-deadline": deadline_ms, "x-dspex-timeout": timeout_ms}
    return make_job({"args": {}}, headers={name: value for name, value in headers.items() if value}, **properties)


def test_a_deadline_that_was_over_before_the_job_was_published_runs_from_its_delivery() -> None:
    """The sender's clock is five minutes behind, and the queue was empty a second ago."""
    job = set_deadline(sent(NOW - 4 * MINUTE, empty_ms=NOW - 1_000, sent_ms=NOW - 5 * MINUTE), now_ms=NOW)
    check_deadline(job, now_ms=NOW)

    assert job.warnings == ("clock_skew: the sender's clock is 5 min 0 s behind the worker's",)

    assert job.deadline_ms == job.delivery.trail.deadline_ms == NOW + MINUTE


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"empty_ms": None},
        {"empty_ms": NOW - 5 * MINUTE},
        {"empty_ms": NOW - 4 * MINUTE + 900},
        {"empty_ms": NOW, "sent_ms": NOW},
        {"empty_ms": NOW, "timeout_ms": None},
        {"empty_ms": NOW, "is_redelivered": True},
        {"empty_ms": NOW, "delivery_count": 1},
        {"empty_ms": NOW, "trail": Trail(first_delivered_ms=NOW - 1)},
    ],
)
def test_a_job_that_may_have_waited_for_so_long_expires(properties: dict[str, Any]) -> None:
    """An outage has left a backlog, the sender's own time stamp says that its clock is right, or it gave no time-out."""
    job = set_deadline(sent(NOW - 4 * MINUTE, **properties), now_ms=NOW)
    with pytest.raises(ExpiredError, match=r"passed 4 min 0 s before it was started, by the worker's clock"):
        check_deadline(job, now_ms=NOW)

    assert (job.deadline_ms, job.warnings) == (NOW - 4 * MINUTE, ())


@pytest.mark.parametrize(
    ("ahead_ms", "warnings"),
    [(0, ()), (900, ()), (5 * MINUTE, ("clock_skew: the sender's clock is 5 min 0 s ahead of the worker's, or more",))],
)
def test_a_deadline_never_lies_further_ahead_than_the_time_out(ahead_ms: int, warnings: tuple[str, ...]) -> None:
    """A clock that is ahead would keep jobs alive that nobody waits for; a small difference is not worth a word."""
    job = set_deadline(sent(NOW + MINUTE + ahead_ms), now_ms=NOW)

    assert (job.deadline_ms, job.warnings) == (NOW + MINUTE, warnings)


def test_a_time_out_alone_sets_no_deadline() -> None:
    """It tells only how long the deadline's own clock has run."""
    assert set_deadline(sent(None, empty_ms=NOW), now_ms=NOW).deadline_ms is None


@pytest.mark.parametrize("deadline_ms", [NOW - 4 * MINUTE, NOW + 9 * MINUTE])
@pytest.mark.parametrize("properties", [{"delivery_count": 1}, {"trail": Trail(first_delivered_ms=NOW - 5_000)}])
def test_a_job_that_was_begun_before_keeps_the_deadline_that_was_found_then(
    deadline_ms: int, properties: dict[str, Any]
) -> None:
    """Its worker died, and the broker brings it as it was sent; or a copy, of one that came before the lease was over."""
    job = resume_deadline(sent(deadline_ms, **properties), began_ms=NOW - 10_000)

    assert job.deadline_ms == NOW - 10_000 + MINUTE


@pytest.mark.parametrize(
    "properties", [{"delivery_count": 1}, {"trail": Trail(first_delivered_ms=1)}, {"timeout_ms": None}]
)
def test_a_deadline_that_was_right_is_kept_when_a_job_is_resumed(properties: dict[str, Any]) -> None:
    """It lies within the time-out; or nothing is known."""
    job = resume_deadline(sent(NOW + 30_000, **properties), began_ms=NOW - 10_000)

    assert job.deadline_ms == NOW + 30_000


def test_the_sentence_tells_when_the_job_was_sent() -> None:
    """By its sender's own clock, so both can be compared."""
    job = sent(NOW - 240_000, sent_ms=NOW - 300_000)
    with pytest.raises(ExpiredError) as error:
        check_deadline(job, now_ms=NOW)

    assert str(error.value) == (
        "The job's deadline passed 4 min 0 s before it was started, by the worker's clock; by the sender's clock it was "
        "sent 5 min 0 s earlier"
    )


@pytest.mark.parametrize("timeout", [0, -1, 1.5, "60000", True])
def test_a_time_out_that_is_none_is_refused(timeout: object) -> None:
    """As a deadline that is none."""
    with pytest.raises(InvalidRequestError, match="x-dspex-timeout must be milliseconds"):
        make_job({"args": {}}, headers={"x-dspex-timeout": timeout})


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (40, "40 ms"),
        (12_340, "12.3 s"),
        (240_000, "4 min 0 s"),
        (2 * 3_600_000 + 300_000, "2 h 5 min"),
        (50 * 3_600_000, "2 d 2 h"),
    ],
)
def test_a_span_is_written_with_its_two_largest_units(milliseconds: int, text: str) -> None:
    """For sentences that people read."""
    assert text == span(milliseconds)
