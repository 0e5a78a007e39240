"""Take messages from the work queues, have them handled, and settle every one of them.

A job runs in a task of the consumer, never of the channel: aiormq cancels its own tasks when the broker closes a
channel, and a paid result must be stored all the same. The reply is published with a confirm first; only then is the
message settled (`worker.amqp.settling`), so a crash at any point makes the broker deliver it again.

A job that may have killed its worker runs with nothing else in hand: where its row says so (``Isolate``), or where the
broker has delivered the message often before (`worker.amqp.suspects`); then it is not even handed in earlier, for its
body may be what kills. There is room for one such job; another one takes a hop on the delay ladder. What was not begun
when the worker stops goes back at once.

See Also:
    docs/WIRE.md: the settlement table; docs/RELIABILITY.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager

import structlog
from aiormq.abc import DeliveredMessage

from worker import telemetry
from worker.amqp.alone import LaneOfOne, unless
from worker.amqp.connection import Link, user_of
from worker.amqp.incoming import Incoming, read, settle
from worker.amqp.intake import Intake, Pause
from worker.amqp.lane import LaneConsumer
from worker.amqp.publisher import Publisher
from worker.amqp.settling import Settler
from worker.amqp.suspects import alone, hop, is_convicted, is_same_job, is_suspect, sentence
from worker.amqp.topology import Topology
from worker.message import (
    LANES,
    DeadLetter,
    Delay,
    Delivery,
    GiveBack,
    Isolate,
    Lane,
    Leave,
    Letter,
    Outcome,
)
from worker.settings import Settings

Handle = Callable[[Delivery], Awaitable[Outcome]]

# What a cancelled job gets to put its row in order.
CANCEL_GRACE_SECONDS = 5.0

_NOT_BEGUN = Outcome(None, GiveBack(), code="not_begun")

_log = structlog.get_logger(__name__)


class Consumer:
    """Consumes the three work queues on a connection of its own."""

    def __init__(
        self, settings: Settings, topology: Topology, *, handle: Handle, publisher: Publisher, worker_id: str
    ) -> None:
        url = settings.broker_url
        self._settings = settings
        self._handle = handle
        self._publisher = publisher
        self._trusted_users = frozenset((user_of(url), *settings.trusted_users))
        link = Link(url, name=f"{worker_id} consume")
        self._intake = Intake(link, settings=settings, topology=topology, on_message=self._take)
        self._jobs: set[asyncio.Task[None]] = set()
        self._in_hand: dict[int, Incoming] = {}
        self._stopping = asyncio.Event()
        self._is_closed = False
        self._settler = Settler(publisher, self._intake, settings=settings, stopping=self._stopping)
        self._alone = LaneOfOne(self._intake, jobs=self._jobs, stopping=self._stopping)

    @property
    def is_consuming(self) -> bool:
        """Whether all three lanes have a live consumer; false while consuming is paused."""
        return self._intake.is_consuming

    @property
    def is_deaf(self) -> bool:
        """Whether the broker is connected and a lane that should be consumed is not; a pause is no deafness."""
        return self._intake.is_deaf

    @property
    def faults(self) -> list[str]:
        """What keeps this worker from consuming, one phrase each: for readiness."""
        return self._intake.faults

    @property
    def pauses(self) -> list[Pause]:
        """Why which lanes are not consumed, for who asks about the worker."""
        return self._intake.pauses

    def in_flight(self, lane: Lane) -> int:
        """Return how many messages of a lane are in hand."""
        return self._intake.lanes[lane].in_flight

    async def start(self) -> None:
        """Connect and declare the topology; a broker that is away is waited for. From then on every lane is consumed.

        Nothing is in hand when it ends, however it ends; see `begun`.

        Raises:
            TopologyError: The broker's queues are not as this worker needs them.
        """
        try:
            await self._intake.start()
        except BaseException:
            await self.close()
            raise

    async def begun(self) -> None:
        """Wait until every lane that is not paused has been consumed."""
        await self._intake.begun()

    async def drain(self, seconds: float) -> bool:
        """Stop to consume, give the jobs in hand time to end, then cancel the rest and close.

        What was not begun goes back at once. A cancelled job's ``handle`` sees a CancelledError; its message goes back
        to the broker.

        Args:
            seconds: Time for the jobs in hand.

        Returns:
            Whether all of them ended by themselves.
        """
        self._stopping.set()
        try:
            await self._intake.stop()
            if not self._jobs:
                return True
            _, left = await asyncio.wait(self._jobs, timeout=seconds)
            return not left
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel what still runs and close the connection; after `drain` there is nothing left to do.

        A job that the store keeps waiting gets its grace once.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._stopping.set()
        await self._intake.stop()
        await self._cancel_jobs()
        await self._intake.close()

    async def look(self) -> None:
        """Find out which queues are empty; what is known of that is as old as the last looks."""
        for lane in self._intake.lanes.values():
            lane.look()

    def paused(self, reason: str, *, lanes: Collection[Lane] = LANES) -> AbstractAsyncContextManager[None]:
        """Consume nothing from the given lanes inside the block; messages in hand stay and can be settled."""
        return self._intake.paused(reason, lanes=lanes)

    # One message, from delivery to settlement.

    def _take(self, message: DeliveredMessage, lane: LaneConsumer) -> None:
        telemetry.DELIVERIES.labels(lane.lane).inc()
        job = asyncio.create_task(self._process(message, lane))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _process(self, message: DeliveredMessage, lane: LaneConsumer) -> None:
        lane.in_flight += 1
        telemetry.JOBS_IN_FLIGHT.labels(lane.lane).inc()
        try:
            incoming = read(
                message,
                lane=lane.lane,
                queue=lane.queue,
                trusted_users=self._trusted_users,
                empty_ms=lane.empty_ms,
            )
            self._in_hand[id(message)] = incoming
            await self._answer(incoming)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message must not stay unsettled
            # A fault of this package: the broker keeps the message in the dead-letter queue, as it is.
            await settle(message, "reject")
            telemetry.log_bug(error, event="message.not_settled", queue=lane.queue)
            self._settler.log_rejected(self._in_hand.get(id(message)))
        finally:
            self._in_hand.pop(id(message), None)
            lane.in_flight -= 1
            telemetry.JOBS_IN_FLIGHT.labels(lane.lane).dec()

    async def _answer(self, incoming: Incoming) -> None:
        """Run a job and settle its message, with nothing else in hand where it may have killed a worker."""
        if not await self._may_begin():
            await self._settler.end(incoming, _NOT_BEGUN)
        elif incoming.is_gone:
            _log.debug("message.returned", queue=incoming.queue)
        elif self._is_suspect(incoming):
            await self._take_suspect(incoming)
        else:
            outcome = await self._run(incoming.delivery)
            if isinstance(outcome.settlement, Isolate):
                await self._isolate(incoming, outcome.settlement.later)
            elif not self._is_superseded(incoming):
                await self._settler.end(incoming, outcome)

    def _is_suspect(self, incoming: Incoming) -> bool:
        """Tell whether a message may be what kills.

        One whose earlier delivery is still in hand has killed nobody: only its channel was lost, by the ack time-out
        for instance. It joins the run there; to wait until nothing else is in hand would stop the worker that long.
        """
        return is_suspect(incoming.delivery) and not any(other.is_gone for other in self._of_same_job(incoming))

    async def _take_suspect(self, incoming: Incoming) -> None:
        """Run a suspect alone, or end it unseen where that was tried often enough."""
        delivery = incoming.delivery
        if not is_convicted(delivery, max_stops=self._settings.max_stops):
            await self._isolate(incoming, hop(delivery, delay_ms=self._settings.delays_ms[0]))
            return
        outcome = sentence(delivery, settings=self._settings)
        telemetry.JOBS.labels("unreadable", outcome.code).inc()
        await self._settler.end(incoming, outcome)

    def _is_superseded(self, incoming: Incoming) -> bool:
        """Tell whether the broker has given this process the same message again: that delivery sends the reply."""
        return incoming.is_gone and any(not other.is_gone for other in self._of_same_job(incoming))

    def _of_same_job(self, incoming: Incoming) -> Iterator[Incoming]:
        """Yield the other messages in hand that are deliveries of the same job."""
        for other in self._in_hand.values():
            if other is not incoming and is_same_job(other.delivery, incoming.delivery):
                yield other

    async def _may_begin(self) -> bool:
        """Wait while publishes are held back; tell whether a job may begin, or the worker stops."""
        waiting = self._publisher.unblocked()
        await (unless(self._stopping, waiting) if self._publisher.is_blocked else waiting)
        return not self._stopping.is_set()

    async def _isolate(self, incoming: Incoming, later: Delay) -> None:
        """Run a job with nothing else in hand, or later where another one is there already."""
        if self._alone.is_taken:
            await self._settler.end(incoming, Outcome(None, later, code="isolated"))
            return
        async with self._alone.entered() as is_alone:
            outcome = await self._run_alone(incoming) if is_alone else _NOT_BEGUN
            if not isinstance(outcome.settlement, GiveBack):
                await self._settler.end(incoming, outcome)
                return
        # Outside: the pause that it waits for must be another one than its own, which is over at once.
        await self._settler.end(incoming, outcome)

    async def _run_alone(self, incoming: Incoming) -> Outcome:
        if incoming.is_gone:
            return Outcome(None, Leave(), code="isolated")
        if not await self._may_begin():
            return _NOT_BEGUN
        telemetry.ISOLATED.inc()
        return await self._run(alone(incoming.delivery))

    async def _run(self, delivery: Delivery) -> Outcome:
        """Call the handler; it is total, so an exception is a bug, and the job is kept for an operator."""
        try:
            return await self._handle(delivery)
        except Exception as error:  # noqa: BLE001 - a bug of any kind must not lose the job
            telemetry.log_bug(error, event="handler.failed", message_id=delivery.message_id)
            return Outcome(None, DeadLetter(Letter("internal", "The worker failed; its log says how.")), "internal")

    async def _cancel_jobs(self) -> None:
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CANCEL_GRACE_SECONDS)
