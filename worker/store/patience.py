"""Calls that must get through: a store that is away is waited for, and a write that was paid for is not cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
import tenacity

from worker.store.records import StoreUnavailableError

R = TypeVar("R")

log = structlog.get_logger()


async def steadily(call: Callable[[], Awaitable[R]]) -> R:
    """Repeat a store call until the store answers.

    A delivery that cannot be claimed, or a result that cannot be stored, is held: running unprotected could pay
    twice, and giving up would lose what was paid for. Readiness fails meanwhile.
    """
    try:
        return await call()
    except StoreUnavailableError as error:
        log.warning("store.unavailable", reason=str(error))
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(StoreUnavailableError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
        sleep=asyncio.sleep,
    ):
        with attempt:
            return await call()
    raise AssertionError("an endless retry has ended")


async def uninterrupted(storing: Coroutine[Any, Any, R]) -> R:
    """Let a cancelled job store what it has paid for before it ends."""
    task = asyncio.create_task(storing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
