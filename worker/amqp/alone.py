"""The lane of one: a job that may have killed its worker runs with nothing else in hand.

If it kills again, it takes no neighbour with it, and no neighbour's count of deliveries and crashes grows. Without
this, ten neighbours of a killer reach the limit in step with it, and all of them are dead-lettered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from worker.amqp.intake import Intake


class LaneOfOne:
    """Room for one message, whose consumer takes nothing else meanwhile.

    Args:
        intake: Paused as long as the room is taken.
        jobs: Every job in hand, the one that enters included.
        stopping: Set when the worker stops; then nobody is let in any more.
    """

    def __init__(self, intake: Intake, *, jobs: Collection[asyncio.Task[None]], stopping: asyncio.Event) -> None:
        self._intake = intake
        self._jobs = jobs
        self._stopping = stopping
        self._is_taken = False

    @property
    def is_taken(self) -> bool:
        """Whether a job is run alone or waits to be: a second one that waited in hand would wait for the first."""
        return self._is_taken

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[bool]:
        """Pause consuming and wait until every other job has ended and is settled.

        Call it from the task of a job, and only while the room is free.

        Yields:
            Whether the job may run; false where the worker stops first.
        """
        self._is_taken = True
        try:
            async with self._intake.paused("a job that may have killed a worker runs alone"):
                yield await self._is_alone()
        finally:
            self._is_taken = False

    async def _is_alone(self) -> bool:
        while (others := set(self._jobs) - {asyncio.current_task()}) and not self._stopping.is_set():
            await unless(self._stopping, asyncio.wait(others))
        return not self._stopping.is_set()


async def unless(event: asyncio.Event, waiting: Coroutine[Any, Any, object]) -> None:
    """Wait for something, but no longer than until an event is set.

    Args:
        event: Ends the waiting.
        waiting: Cancelled then.
    """
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
