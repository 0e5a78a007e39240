"""How the worker is, for whoever asks over HTTP: ready for jobs, or not and why; alive, or to be started again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from worker.amqp.consumer import Consumer
from worker.amqp.hearing import Hearing
from worker.amqp.publisher import Publisher
from worker.store import Store, StoreUnavailableError

_READY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Whom to ask, once they are there.

    Attributes:
        store: Whether it answers.
        consumer: What keeps it from consuming.
        publisher: Whether it may publish.
        hearing: How long the worker has been deaf.
    """

    store: Store
    consumer: Consumer
    publisher: Publisher
    hearing: Hearing


@dataclass(slots=True)
class Condition:
    """How the worker is.

    Attributes:
        parts: Whom to ask; None until the store is open.
    """

    parts: Parts | None = None

    def fault(self) -> str | None:
        """Return why the worker should be started again, or None."""
        return self.parts.hearing.fault() if self.parts else None

    async def missing(self) -> list[str]:
        """Return what keeps the worker from taking and answering jobs, one phrase each."""
        if self.parts is None:
            return ["store: not reached yet"]
        faults = self.parts.consumer.faults
        publisher = self.parts.publisher
        if not publisher.is_ready:
            faults.append("not publishing" + (": an alarm of the broker" if publisher.is_blocked else ""))
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.parts.store.ping()
        except (StoreUnavailableError, TimeoutError) as error:
            faults.append(f"store: {str(error) or 'no answer'}")
        return faults
