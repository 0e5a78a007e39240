"""Keep a live consumer on every work queue.

Lost connections, closed channels, deleted queues and consumers that the broker cancels all end in one place: `Intake`
notices, declares the topology again and consumes again. Until then `Intake.is_consuming` is false, so readiness shows
it; nothing waits in silence.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from aiormq.abc import DeliveredMessage

from worker.amqp.connection import Link
from worker.amqp.errors import ConnectionLostError
from worker.amqp.lane import LaneConsumer, LaneEvents
from worker.amqp.topology import Topology, declare
from worker.message import LANES, Lane
from worker.settings import Settings

# The net under the events that tell of a lost consumer.
WATCH_SECONDS = 5.0
MEND_PAUSE_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Intake:
    """The consumers of the three lanes, brought back whenever they are lost.

    Attributes:
        lanes: Lane → its consumer.
    """

    def __init__(
        self,
        link: Link,
        *,
        settings: Settings,
        topology: Topology,
        on_message: Callable[[DeliveredMessage, LaneConsumer], None],
    ) -> None:
        self._link = link
        self._topology = topology
        self._changed = asyncio.Event()
        self._mending = asyncio.Lock()
        self._pauses = 0
        self._is_stopped = False
        self._watchdog: asyncio.Task[None] | None = None
        self.lanes = _make_lanes(settings, topology, LaneEvents(on_message, self._changed.set))

    @property
    def is_consuming(self) -> bool:
        """Whether all lanes have a live consumer."""
        return all(lane.is_live for lane in self.lanes.values())

    async def start(self) -> None:
        """Consume, however long the broker is away, and watch over it from then on.

        Raises:
            TopologyError: The broker's queues are not as this worker needs them.
        """
        while not self.is_consuming:
            try:
                await self._mend()
            except ConnectionLostError as error:
                _log.warning("cannot consume yet, trying again", reason=str(error))
                await _pause()
        self._watchdog = asyncio.create_task(self._watch(), name="dspex intake watchdog")

    async def stop(self) -> None:
        """Cancel the consumers for good; channels stay open, so that messages in hand can be settled."""
        self._is_stopped = True
        if self._watchdog is not None:
            self._watchdog.cancel()
            with suppress(asyncio.CancelledError):
                await self._watchdog
        await self._cancel_consumers()

    async def close(self) -> None:
        """Close the connection; the broker takes back what is not settled."""
        await self._link.close()

    @asynccontextmanager
    async def paused(self, reason: str) -> AsyncIterator[None]:
        """Consume nothing inside the block; messages in hand stay and can be settled."""
        self._pauses += 1
        if self._pauses == 1:
            _log.error("consuming is paused", reason=reason)
        try:
            await self._cancel_consumers()
            yield
        finally:
            self._pauses -= 1
            self._changed.set()

    async def _watch(self) -> None:
        """Bring back whatever was lost, as soon as it is known, and look again every few seconds."""
        # A flag besides the cancellation: asyncio.wait_for of Python 3.11, which aiormq uses, may swallow that.
        while not self._is_stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._mend()
            except Exception as error:  # noqa: BLE001 - a watch that ended would leave the worker deaf for good
                _log.error("not consuming", reason=str(error), error=type(error).__name__)
                await _pause()
                self._changed.set()

    async def _mend(self) -> None:
        """Consume on every lane that does not, unless consuming is paused or over."""
        async with self._mending:
            if self._pauses or self._is_stopped or self.is_consuming:
                return
            connection = await self._link.connection()
            await declare(self._topology, connection)
            for lane in self.lanes.values():
                if not lane.is_live:
                    await lane.consume(connection)
            _log.info("consuming", queues=[lane.queue for lane in self.lanes.values()])

    async def _cancel_consumers(self) -> None:
        async with self._mending:
            for lane in self.lanes.values():
                await lane.cancel()


def _make_lanes(settings: Settings, topology: Topology, events: LaneEvents) -> dict[Lane, LaneConsumer]:
    prefetch: dict[Lane, int] = {
        "create": settings.create_concurrency,
        "execute": settings.concurrency,
        "control": settings.control_concurrency,
    }
    return {
        lane: LaneConsumer(lane, queue=topology.work_queue(lane), prefetch_count=prefetch[lane], events=events)
        for lane in LANES
    }


async def _pause() -> None:
    await asyncio.sleep(random.uniform(0.1, MEND_PAUSE_SECONDS))  # noqa: S311 - jitter, not a secret
