"""Keep a live consumer on every work queue.

Lost connections, closed channels, deleted queues and consumers that the broker cancels all end in one place: `Intake`
notices, declares the topology again and consumes again. Until then `Intake.faults` names what is missing, so readiness
shows it; nothing waits in silence.

Consuming can also be paused on purpose, lane by lane. Pauses count: a lane is consumed again when the last of its
pauses is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from worker import telemetry
from worker.amqp.connection import Link
from worker.amqp.errors import ConnectionLostError
from worker.amqp.lane import LaneConsumer, LaneEvents
from worker.amqp.topology import Topology, declare
from worker.message import LANES, Lane
from worker.settings import Settings

# The net under the events that tell of a lost consumer.
WATCH_SECONDS = 5.0
MEND_PAUSE_SECONDS = 2.0
# What a broker that hangs costs a stop: its answers to the cancelling of the consumers change nothing then.
STOP_SECONDS = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Pause:
    """Why some lanes are not consumed."""

    reason: str
    lanes: frozenset[Lane]


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
        self._pauses: list[Pause] = []
        self._quiet: dict[Lane, asyncio.Event] = {lane: asyncio.Event() for lane in LANES}
        self._trouble = ""
        self._is_stopped = False
        self._begun = asyncio.Event()
        self._declared_on: AbstractConnection | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.lanes = _make_lanes(settings, topology, LaneEvents(on_message, self._changed.set))

    @property
    def is_consuming(self) -> bool:
        """Whether all lanes have a live consumer."""
        return all(lane.is_live for lane in self.lanes.values())

    @property
    def is_deaf(self) -> bool:
        """Whether the broker is connected and a lane that should be consumed is not."""
        return self._link.is_open and bool(self._missing())

    @property
    def faults(self) -> list[str]:
        """What keeps this worker from consuming, one phrase each: pauses by their reason, and lost consumers."""
        if self._is_stopped:
            return ["stopping"]
        paused = [f"paused: {reason}" for reason in dict.fromkeys(pause.reason for pause in self._pauses)]
        missing = [lane.queue for lane in self._missing()]
        if not missing:
            return paused
        why = f": {self._trouble}" if self._trouble else ""
        return [*paused, f"not consuming {', '.join(missing)}{why}"]

    @property
    def pauses(self) -> list[Pause]:
        """Why which lanes are not consumed: pauses on purpose, the stop, and consumers that were lost."""
        if self._is_stopped:
            return [Pause("stopping", frozenset(LANES))]
        missing = frozenset(lane.lane for lane in self._missing())
        # Nothing is wrong with a worker that just begins.
        if not missing or not (self._trouble or self._begun.is_set()):
            return [*self._pauses]
        return [*self._pauses, Pause(f"lost its consumer{self._trouble and ': '}{self._trouble}", missing)]

    async def start(self) -> None:
        """Connect and declare, however long the broker is away; from then on every lane is consumed and watched over.

        It returns before anything is consumed: a lane that does not come up must neither keep the others from being
        paused and drained, nor the worker from being stopped. See `begun`.

        Raises:
            TopologyError: The broker's queues are not as this worker needs them.
        """
        while self._declared_on is None:
            try:
                await self._declare()
            except ConnectionLostError as error:
                self._trouble = str(error)
                _log.warning("topology.not_declared", reason=str(error))
                await _pause()
        self._changed.set()
        self._watchdog = asyncio.create_task(self._watch(), name="dspex intake watchdog")

    async def begun(self) -> None:
        """Wait until every lane that is not paused has been consumed."""
        await self._begun.wait()

    async def stop(self) -> None:
        """Cancel the consumers for good; channels stay open, so that messages in hand can be settled.

        A broker that hangs is waited for once, and shortly; what it still delivers is not begun.
        """
        self._is_stopped = True
        if self._ending is None:
            # Left to itself: a cancel that is cut off makes aiormq close the channel, and all in hand comes again.
            self._ending = asyncio.create_task(self._end_consuming(), name="dspex end of consuming")
            done, _ = await asyncio.wait({self._ending}, timeout=STOP_SECONDS)
            for ended in done:
                ended.result()

    async def close(self) -> None:
        """Close the connection; the broker takes back what is not settled."""
        await self._link.close()
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.gather(self._ending, return_exceptions=True)

    @asynccontextmanager
    async def paused(self, reason: str, *, lanes: Collection[Lane] = LANES) -> AsyncIterator[None]:
        """Consume nothing from the given lanes inside the block; messages in hand stay and can be settled.

        Args:
            reason: For readiness and the log.
            lanes: Which ones.
        """
        pause = Pause(reason, frozenset(lanes))
        self._pauses.append(pause)
        _log.warning("consuming.paused", reason=reason, lanes=sorted(pause.lanes))
        self._show_pauses()
        try:
            await self._cancel_consumers(lanes)
            yield
        finally:
            self._pauses.remove(pause)
            self._show_pauses()
            self._changed.set()

    async def quiet(self, lane: Lane) -> None:
        """Wait until a lane is not consumed and shall not be: what goes back to its queue then does not return here."""
        await self._quiet[lane].wait()

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
                self._begun.set()
            except Exception as error:  # noqa: BLE001 - a watch that ended would leave the worker deaf for good
                self._trouble = str(error)
                _log.error("consuming.failed", reason=str(error), error=type(error).__name__)
                await _pause()
                self._changed.set()

    async def _mend(self) -> None:
        """Consume on every lane that does not, unless it is paused or all is over."""
        async with self._mending:
            if not self._missing():
                return
            connection = await self._declare()
            self._declared_on = None
            await self._consume(connection)
            self._trouble = ""

    async def _declare(self) -> AbstractConnection:
        """Declare the topology, unless the start has just done so on this very connection."""
        connection = await self._link.connection()
        if connection is not self._declared_on:
            await declare(self._topology, connection)
        self._declared_on = connection
        return connection

    async def _consume(self, connection: AbstractConnection) -> None:
        """Start the missing consumers; a queue that does not answer keeps no other lane from its own."""
        failures: list[ConnectionLostError] = []
        started = []
        for lane in self._missing():
            try:
                await lane.consume(connection)
                started.append(lane.queue)
            except ConnectionLostError as error:
                failures.append(error)
        if started:
            _log.info("consuming.started", queues=started)
        if failures:
            raise failures[0]

    async def _end_consuming(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait({self._watchdog})
        await self._cancel_consumers(LANES)

    async def _cancel_consumers(self, lanes: Collection[Lane]) -> None:
        async with self._mending:
            await asyncio.gather(*(self._cancel_consumer(lane) for lane in lanes))

    async def _cancel_consumer(self, lane: Lane) -> None:
        await self.lanes[lane].cancel()
        if self._is_paused(lane):
            self._quiet[lane].set()

    def _missing(self) -> list[LaneConsumer]:
        return [lane for lane in self.lanes.values() if not lane.is_live and not self._is_paused(lane.lane)]

    def _is_paused(self, lane: Lane) -> bool:
        return self._is_stopped or any(lane in pause.lanes for pause in self._pauses)

    def _show_pauses(self) -> None:
        for lane in LANES:
            is_paused = self._is_paused(lane)
            telemetry.CONSUMING_PAUSED.labels(lane).set(is_paused)
            if not is_paused:
                self._quiet[lane].clear()


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
