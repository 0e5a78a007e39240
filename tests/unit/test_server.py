"""What the worker does beside its jobs, and how it stops."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from worker.server import _Chore, _chores
from worker.store import StoreUnavailableError
from worker.store.availability import Availability


async def test_a_chore_is_silent_about_a_store_that_is_probed_already() -> None:
    """The outage has its line at the fall and one at the return; a line a second for an hour would hide all others."""
    turns = 0
    again = asyncio.Event()

    async def answer() -> None:
        pass

    async def fail() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            again.set()
        error = StoreUnavailableError("away")
        error.availability = availability
        raise error

    availability = Availability(answer)
    with capture_logs() as log:
        async with _chores(_Chore("flush", 0.001, fail)), asyncio.timeout(5):
            await again.wait()

    assert log == []


async def test_a_chore_that_fails_is_told_without_its_words_and_done_again() -> None:
    """SQLAlchemy's errors quote their parameters."""
    again = asyncio.Event()
    turns = 0

    async def fail() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            again.set()
        raise RuntimeError("a secret")

    with capture_logs() as log:
        async with _chores(_Chore("sweep", 0.001, fail)), asyncio.timeout(5):
            await again.wait()

    assert "secret" not in str(log)
    assert {(line["event"], line["chore"], line["error"]) for line in log} == {
        ("chore.failed", "sweep", "RuntimeError")
    }
