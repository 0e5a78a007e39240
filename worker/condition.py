"""How the worker is: ready and alive for who asks over HTTP; what it says of itself with each heartbeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.amqp.consumer import Consumer
from worker.amqp.hearing import Hearing
from worker.amqp.publisher import Publisher
from worker.circuits import Circuits
from worker.message import LANES
from worker.store import Store, StoreUnavailableError

_READY_SECONDS = 5.0
# A reason may quote the broker; the row of a heartbeat stays small.
_MAX_REASON = 200


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


async def report_status(store: Store, consumer: Consumer, circuits: Circuits, *, settings: str) -> None:
    """Let the next heartbeat say how this worker is, as JSON; see `worker.store.workers`.

    Args:
        store: Has the heartbeat.
        consumer: Knows what is in hand and what is paused.
        circuits: Of the LMs; those that are open are told.
        settings: Hash of the settings that should agree.
    """
    status = {
        "in_flight": {lane: consumer.in_flight(lane) for lane in LANES},
        "paused": [{"reason": one.reason[:_MAX_REASON], "lanes": sorted(one.lanes)} for one in consumer.pauses],
        "circuits": {alias: _opened(circuit) for alias, circuit in circuits.to_json().items() if circuit["code"]},
        "settings": settings,
    }
    store.report(json.dumps(status))


def _opened(circuit: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": circuit["code"], "open_seconds": circuit["open_seconds"]}
