"""Calls that wait for a store, where nobody probes it; with a probe: test_availability.py."""

from __future__ import annotations

import asyncio

import pytest

from worker.store import StoreUnavailableError, briefly, steadily, uninterrupted
from worker.store.availability import pauses


class Flaky:
    """Fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def call(self) -> str:
        """Fail, or answer."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("away")
        return "answer"


async def test_a_steady_call_is_repeated_until_it_is_answered() -> None:
    """Also where the error leads to no probe."""
    assert await steadily(Flaky(2).call) == "answer"


async def test_a_brief_call_is_repeated_and_then_given_up() -> None:
    """The last error is what the caller gets."""
    assert await briefly(Flaky(1).call) == "answer"
    with pytest.raises(StoreUnavailableError, match="away"):
        await briefly(Flaky(1).call, hold_seconds=0)


async def test_other_errors_are_not_waited_for() -> None:
    """They would come again."""

    async def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await steadily(broken)


async def test_a_cancelled_job_still_stores_what_it_paid_for() -> None:
    """It ends cancelled, after the write."""
    begun, go, stored = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def store() -> None:
        begun.set()
        await go.wait()
        stored.set()

    job = asyncio.create_task(uninterrupted(store()))
    await begun.wait()
    job.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await job

    assert stored.is_set()


def test_pauses_grow_up_to_a_limit_and_are_jittered() -> None:
    """At least half of 0.2, 0.4, … 5 seconds, at most all of it."""
    longest = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    found = [pause for pause, _ in zip(pauses(), longest, strict=False)]

    assert all(limit / 2 <= pause <= limit for pause, limit in zip(found, longest, strict=True))
