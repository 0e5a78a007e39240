"""A stage for the rows of the table of faults; goals set their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.faults.stage import Stage


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    """A node that nobody kills and a nursery; take a `tests.faults.rooms.room` on it."""
    async with Stage.open() as stage:
        yield stage
