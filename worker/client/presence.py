"""Whether somebody consumes a queue, and how long to wait where nobody does."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from worker.client.errors import ArgumentError, NoWorkerError
from worker.client.link import Link

NoWorker = Literal["fail"] | tuple[Literal["wait"], int]
"""What a call does where no worker consumes its queue: ``"fail"`` at once, or ``("wait", milliseconds)``."""

# How long one look at a queue answers all calls.
_CONSUMER_SEEN_SECONDS = 5.0
_NOBODY_SEEN_SECONDS = 0.25
_PAUSE_INITIAL_SECONDS = 0.05
_PAUSE_MAX_SECONDS = 1.0


class Presence:
    """Look for consumers before a job is sent.

    A platform that starts workers by the length of the queue (an autoscaler that goes down to zero) sees no reason to
    start one as long as nothing is published: so a call that waits publishes at once.

    Args:
        link: Asks the broker.
        no_worker: What to do where nobody consumes.

    Raises:
        ArgumentError: ``no_worker`` is neither.
    """

    def __init__(self, link: Link, no_worker: NoWorker) -> None:
        self._link = link
        self.wait_seconds: float | None = _wait_seconds(no_worker)
        self._asking = asyncio.Lock()
        self._seen: dict[str, tuple[float, int | None]] = {}

    async def look(self, queue: str) -> float:
        """Return by how many seconds a job's bound grows, since nobody was seen who would take it; 0 with a worker.

        Where the queue itself does not exist, wait for it as long as ``no_worker`` says.

        Raises:
            NoWorkerError: There is no queue; or no consumer, and calls do not wait.
        """
        if self.wait_seconds == 0:
            return 0.0
        begun, pause_seconds = time.monotonic(), _PAUSE_INITIAL_SECONDS
        while True:
            try:
                consumers = await self._count(queue)
            except ConnectionError:
                return self.wait_seconds or 0.0  # Unknown: the publish will tell.
            if consumers:
                return 0.0
            if self.wait_seconds is None:
                raise _absence(queue, consumers)
            left_seconds = self.wait_seconds - (time.monotonic() - begun)
            if consumers is not None:
                return max(0.0, left_seconds)
            if left_seconds <= 0:
                raise _absence(queue, consumers)
            await asyncio.sleep(min(pause_seconds, left_seconds))
            pause_seconds = min(_PAUSE_MAX_SECONDS, pause_seconds * 2)

    async def _count(self, queue: str) -> int | None:
        """Return the consumers of a queue, None without a queue; one look answers the calls that ask at once."""
        async with self._asking:
            if queue in self._seen and self._is_fresh(*self._seen[queue]):
                return self._seen[queue][1]
            consumers = await self._link.count_consumers(queue)
            self._seen[queue] = (time.monotonic(), consumers)
            return consumers

    def _is_fresh(self, seen: float, consumers: int | None) -> bool:
        # Who does not wait is told of nobody only by a look of its own.
        lifetime = _CONSUMER_SEEN_SECONDS if consumers else 0.0 if self.wait_seconds is None else _NOBODY_SEEN_SECONDS
        return time.monotonic() - seen < lifetime


def _wait_seconds(no_worker: object) -> float | None:
    match no_worker:
        case "fail":
            return None
        case ("wait", int(milliseconds)) if milliseconds >= 0:
            return milliseconds / 1_000
        case _:
            told = f'no_worker must be "fail" or ("wait", milliseconds), not {no_worker!r}'
            raise ArgumentError(told, field="no_worker")


def _absence(queue: str, consumers: int | None) -> NoWorkerError:
    if consumers is None:
        return NoWorkerError(f"There is no queue {queue}: has a worker run in this namespace?")
    return NoWorkerError(f"No worker consumes {queue}")
