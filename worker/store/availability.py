"""Whether the store answers: found out by one probe, told to everybody who waits.

``store.availability`` is shared by all calls of a process, so an outage costs one probe and not one per job in hand:

- A call that fails makes the store suspect, and one loop asks it again, with jittered pauses between 0.2 and 5 s. One slow
  call does not take the store down for the others: it counts as down when a probe has failed, too.
- While it is down, calls fail at once, with the same reason, instead of each waiting for its own time-out.
- `Availability.wait_until_up` returns when it answers; `Availability.wait_until_given_up` when it has been down for so
  long that deliveries should not be held any more. A chore that pauses the consumers looks like this::

      while True:
          await store.availability.wait_until_given_up(settings.store_hold_seconds)
          async with consumer.paused("the store is down"):
              await store.availability.wait_until_up()

Jobs do not use it directly: see `worker.store.patience`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog

from worker.telemetry import STORE_UP

R = TypeVar("R")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0

log = structlog.get_logger()


class StoreUnavailableError(Exception):
    """The store cannot be used now: connection lost, locked for too long, disk full, or made by another version.

    The message says what to do. Nothing was stored, or it is unknown whether it was; every call may be repeated.

    Attributes:
        availability: Tells when the store answers again; None where nobody probes it.
    """

    availability: Availability | None = None


class StoreMisfitError(StoreUnavailableError):
    """Waiting does not help: the driver is missing, another version made the store, or it is no store at all."""


class Availability:
    """Knows whether the store answers and since when it does not.

    Args:
        ping: Writes something small, in bounded time; raises `StoreUnavailableError`.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        self._suspect_since = 0.0
        self._reason = ""
        self._answers = asyncio.Event()
        self._answers.set()
        self._down = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._is_closed = False
        STORE_UP.set(1)

    @property
    def is_up(self) -> bool:
        """Whether calls are let through."""
        return not self._down.is_set()

    @property
    def down_seconds(self) -> float:
        """How long the store has been down, counted from the first call that failed; 0.0 while it is up."""
        return time.monotonic() - self._suspect_since if self._down.is_set() else 0.0

    async def call(self, work: Callable[[], Awaitable[R]]) -> R:
        """Let one call through, unless the store is known to be down, and notice how it ends.

        Raises:
            StoreUnavailableError: The store is down, or this call found it so; the error leads back here.
        """
        if self._down.is_set():
            refusal = StoreUnavailableError(self._reason)
            refusal.availability = self
            raise refusal
        try:
            return await work()
        except StoreUnavailableError as error:
            error.availability = self
            self._suspect(error)
            raise

    async def wait_until_up(self) -> None:
        """Wait until a probe has been answered; return at once while no call has failed."""
        await self._answers.wait()

    async def wait_until_given_up(self, hold_seconds: float) -> None:
        """Wait until the store has been down for so long without a pause."""
        while True:
            await self._down.wait()
            try:
                async with asyncio.timeout(max(hold_seconds - self.down_seconds, 0)):
                    await self._answers.wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        """Stop probing."""
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    def _suspect(self, error: StoreUnavailableError) -> None:
        if self._is_closed or not self._answers.is_set():
            return
        self._suspect_since = time.monotonic()
        self._answers.clear()
        log.warning("store.suspect", reason=str(error))
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        for pause in pauses():
            try:
                await self._ping()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, all the others wait for this loop
                self._fell(error)
            await asyncio.sleep(pause)
        self._rose()

    def _fell(self, error: Exception) -> None:
        self._reason = str(error)
        if not self._down.is_set():
            log.error("store.down", reason=self._reason)
            STORE_UP.set(0)
            self._down.set()

    def _rose(self) -> None:
        if self._down.is_set():
            log.info("store.up", seconds=round(self.down_seconds, 1))
            STORE_UP.set(1)
            self._down.clear()
        self._answers.set()


def pauses() -> Iterator[float]:
    """Yield seconds to wait, for ever: ``U(½, 1) · min(0.2 · 2ⁿ, 5)``, so that workers do not come back in step."""
    longest = _FIRST_PAUSE_SECONDS
    while True:
        yield longest * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret
        longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)
