"""Calls to a store that may be away: some wait for ever, some for a while, and some are not cut off.

=============================================  =====================================================================
call                                           for
=============================================  =====================================================================
``steadily(lambda: store.finish(…))``          what was paid for: waits until the store answers
``briefly(lambda: store.claim(…),              claims and reads: raises `StoreUnavailableError` once the store has been
hold_seconds=settings.store_hold_seconds)``    down for so long, at once where it already has
``uninterrupted(steadily(…))``                 a write that a cancelled job must still make
=============================================  =====================================================================

All of them wait for the one probe of `worker.store.availability`: an error of the store leads there. An error that does not
(a store that is not open any more, or a fake) is tried again after a pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from worker.store.availability import StoreUnavailableError, pauses

R = TypeVar("R")


async def steadily(call: Callable[[], Awaitable[R]]) -> R:
    """Repeat a store call until the store answers.

    A result that cannot be stored is held: giving up would lose what was paid for. Readiness fails meanwhile.
    """
    return await _patiently(call, hold_seconds=None)


async def briefly(call: Callable[[], Awaitable[R]], *, hold_seconds: float = 60.0) -> R:
    """Repeat a store call until the store answers or has been down for so long.

    A delivery that cannot be claimed is held, for running unprotected could pay twice; but not for ever: the broker can
    give it to a worker whose store answers.

    Args:
        call: The call; it may be repeated.
        hold_seconds: Counted from when the store went down, so all that wait give up together.

    Raises:
        StoreUnavailableError: It has not answered.
    """
    return await _patiently(call, hold_seconds=hold_seconds)


async def uninterrupted(storing: Coroutine[Any, Any, R]) -> R:
    """Let a cancelled job store what it has paid for before it ends."""
    task = asyncio.create_task(storing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _patiently(call: Callable[[], Awaitable[R]], *, hold_seconds: float | None) -> R:
    began = time.monotonic()
    for pause in pauses():
        try:
            return await call()
        except StoreUnavailableError as error:
            await _wait_for_store(error, began=began, hold_seconds=hold_seconds, pause=pause)
    raise AssertionError("an endless retry has ended")


async def _wait_for_store(
    error: StoreUnavailableError, *, began: float, hold_seconds: float | None, pause: float
) -> None:
    """Wait until the store answers; raise the error where that takes too long.

    The pause after it is for a call that fails although the store takes the probe's writes: it must not spin.
    """
    availability = error.availability
    waited = time.monotonic() - began
    if availability is not None:
        waited = max(waited, availability.down_seconds)
    try:
        async with asyncio.timeout(None if hold_seconds is None else max(hold_seconds - waited, 0)):
            if availability is not None:
                await availability.wait_until_up()
            await asyncio.sleep(pause)
    except TimeoutError:
        raise error from error.__cause__
