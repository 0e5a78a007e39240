"""Deafness is measured by a clock, not felt."""

from __future__ import annotations

import pytest

from worker.amqp.hearing import DEAF_SECONDS, Hearing


class Worker:
    """A worker whose hearing and clock the test sets."""

    def __init__(self) -> None:
        self.is_deaf = False
        self.seconds = 1_000.0
        self.hearing = Hearing(lambda: self.is_deaf, clock=lambda: self.seconds)


def test_a_worker_that_consumes_is_alive() -> None:
    """However long it has run."""
    worker = Worker()
    worker.seconds += 10 * DEAF_SECONDS

    assert worker.hearing.fault() is None


@pytest.mark.parametrize(("seconds", "is_stuck"), [(0, False), (DEAF_SECONDS - 1, False), (DEAF_SECONDS, True)])
async def test_five_minutes_of_deafness_are_too_many(seconds: float, is_stuck: bool) -> None:
    """The time counts from the first sample that found it deaf."""
    worker = Worker()
    worker.is_deaf = True
    await worker.hearing.listen()
    worker.seconds += seconds
    fault = worker.hearing.fault()

    assert (fault is not None) is is_stuck


async def test_one_good_sample_starts_the_time_anew() -> None:
    """A worker that comes back and loses its consumers again is not stuck."""
    worker = Worker()
    worker.is_deaf = True
    await worker.hearing.listen()
    worker.seconds += DEAF_SECONDS - 1
    worker.is_deaf = False
    await worker.hearing.listen()
    worker.is_deaf = True
    worker.seconds += 2

    assert worker.hearing.fault() is None


async def test_the_reason_tells_for_how_long() -> None:
    """An operator reads it in the probe's answer."""
    worker = Worker()
    worker.is_deaf = True
    await worker.hearing.listen()
    worker.seconds += 400

    assert worker.hearing.fault() == "connected and not consuming for 400 seconds"
