"""Take messages from the work queues, have them handled, and settle every one of them.

A job runs in a task of the consumer, never of the channel: aiormq cancels its own tasks when the broker closes a
channel, and a paid result must be stored all the same. The reply is published with a confirm first; only then is the
message settled, so a crash at any point makes the broker deliver it again.

======================= =============================================================================================
Settlement              what `Consumer` does, after the reply was published with a confirm
======================= =============================================================================================
``Ack``                 ack; a reply that nobody took is counted and stays in the store
``AckIfReplied``        ack if the reply was taken, else as ``DeadLetter``
``DeadLetter``          copy to the dead-letter queue, confirm, ack; while that queue is full, consuming pauses
``Delay``               copy to a step of the delay ladder, confirm, ack
``Reject``              reject without a copy: the broker dead-letters the message as it is
``Leave``               nothing: the broker delivers it again
======================= =============================================================================================

A message whose channel is gone is left alone in every case: the broker has it back already. One that cannot be
copied (oversized headers) is rejected where a copy was asked for.

See Also:
    docs/WIRE.md: the settlement table; docs/RELIABILITY.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import assert_never

import structlog
from aiormq.abc import DeliveredMessage

from worker import telemetry
from worker.amqp.connection import Link, user_of
from worker.amqp.errors import DeadLetterRefusedError
from worker.amqp.incoming import Incoming, read, settle
from worker.amqp.intake import Intake
from worker.amqp.lane import LaneConsumer
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Delivery,
    Lane,
    Leave,
    Letter,
    Outcome,
    Reject,
    Settlement,
)
from worker.settings import Settings

Handle = Callable[[Delivery], Awaitable[Outcome]]

DEAD_LETTER_RETRY_SECONDS = 3.0
# What a cancelled job gets to put its row in order.
CANCEL_GRACE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Consumer:
    """Consumes the three work queues on a connection of its own."""

    def __init__(
        self, settings: Settings, topology: Topology, *, handle: Handle, publisher: Publisher, worker_id: str
    ) -> None:
        url = settings.amqp_url.get_secret_value()
        self._handle = handle
        self._publisher = publisher
        self._trusted_users = frozenset((user_of(url), *settings.trusted_users))
        link = Link(url, name=f"{worker_id} consume")
        self._intake = Intake(link, settings=settings, topology=topology, on_message=self._take)
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def is_consuming(self) -> bool:
        """Whether all three lanes have a live consumer; false while consuming is paused."""
        return self._intake.is_consuming

    def in_flight(self, lane: Lane) -> int:
        """Return how many messages of a lane are in hand."""
        return self._intake.lanes[lane].in_flight

    async def start(self) -> None:
        """Connect, declare the topology and consume; a broker that is away is waited for.

        Raises:
            TopologyError: The broker's queues are not as this worker needs them.
        """
        try:
            await self._intake.start()
        except BaseException:
            await self.close()
            raise

    async def drain(self, seconds: float) -> bool:
        """Stop to consume, give the jobs in hand time to end, then cancel the rest and close.

        A cancelled job's ``handle`` sees a CancelledError; its message goes back to the broker.

        Args:
            seconds: Time for the jobs in hand.

        Returns:
            Whether all of them ended by themselves.
        """
        try:
            await self._intake.stop()
            if not self._jobs:
                return True
            _, left = await asyncio.wait(self._jobs, timeout=seconds)
            return not left
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancel what still runs and close the connection; after `drain` there is nothing left to do."""
        await self._intake.stop()
        await self._cancel_jobs()
        await self._intake.close()

    def paused(self, reason: str) -> AbstractAsyncContextManager[None]:
        """Consume nothing inside the block; messages in hand stay and can be settled."""
        return self._intake.paused(reason)

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
            incoming = read(message, lane=lane.lane, queue=lane.queue, trusted_users=self._trusted_users)
            await self._publisher.unblocked()
            outcome = await self._run(incoming.delivery)
            is_replied = await self._reply(outcome)
            await self._settle(incoming, outcome, is_replied=is_replied)
        except Exception:  # noqa: BLE001 - whatever it is, the message must not stay unsettled
            # A fault of this package: the broker keeps the message in the dead-letter queue, as it is.
            _log.exception("a message could not be settled", queue=lane.queue)
            await settle(message, is_done=False)
        finally:
            lane.in_flight -= 1
            telemetry.JOBS_IN_FLIGHT.labels(lane.lane).dec()

    async def _run(self, delivery: Delivery) -> Outcome:
        """Call the handler; it is total, so an exception is a bug, and the job is kept for an operator."""
        try:
            return await self._handle(delivery)
        except Exception:  # noqa: BLE001 - a bug of any kind must not lose the job
            _log.exception("the handler raised", message_id=delivery.message_id)
            return Outcome(None, DeadLetter(Letter("internal", "The worker failed; its log says how.")), "internal")

    async def _reply(self, outcome: Outcome) -> bool:
        """Publish the reply, if there is one, and tell whether somebody took it."""
        if outcome.reply is None:
            return False
        is_taken = await self._publisher.reply(outcome.reply)
        if not is_taken:
            telemetry.REPLIES_UNDELIVERABLE.inc()
            _log.info("nobody took a reply", reply_to=outcome.reply.reply_to, code=outcome.code)
        return is_taken

    async def _settle(self, incoming: Incoming, outcome: Outcome, *, is_replied: bool) -> None:
        settlement = _resolve(outcome.settlement, incoming.delivery, is_replied=is_replied)
        if incoming.is_gone:
            _log.debug("a message went back to the broker before it was settled", queue=incoming.queue)
            return
        match settlement:
            case Ack():
                await _tell(outcome)
                await incoming.ack()
            case DeadLetter(letter):
                await self._dead_letter(incoming, letter)
                await _tell(outcome)
                await incoming.ack()
            case Delay():
                await self._publisher.delay(incoming, settlement)
                await _tell(outcome)
                await incoming.ack()
            case Reject():
                await _tell(outcome)
                await incoming.reject()
            case Leave():
                pass
            case _:
                assert_never(settlement)
        telemetry.SETTLEMENTS.labels(_LABELS[type(settlement)]).inc()

    async def _dead_letter(self, incoming: Incoming, letter: Letter) -> None:
        """Copy to the dead-letter queue; while it is full, take nothing new and try again."""
        try:
            await self._publisher.dead_letter(incoming, letter)
        except DeadLetterRefusedError as error:
            async with self._intake.paused(str(error)):
                await self._dead_letter_patiently(incoming, letter)

    async def _dead_letter_patiently(self, incoming: Incoming, letter: Letter) -> None:
        while True:
            await asyncio.sleep(DEAD_LETTER_RETRY_SECONDS)
            with suppress(DeadLetterRefusedError):
                await self._publisher.dead_letter(incoming, letter)
                return

    async def _cancel_jobs(self) -> None:
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CANCEL_GRACE_SECONDS)


_LABELS: dict[type[Settlement], str] = {
    Ack: "ack",
    DeadLetter: "dead_letter",
    Delay: "delay",
    Reject: "reject",
    Leave: "leave",
}


def _resolve(
    settlement: Settlement, delivery: Delivery, *, is_replied: bool
) -> Ack | DeadLetter | Delay | Reject | Leave:
    """Decide what depends on the reply, and reject what cannot be copied."""
    if isinstance(settlement, AckIfReplied):
        settlement = Ack() if is_replied else DeadLetter(settlement.letter)
    if delivery.is_oversized and isinstance(settlement, DeadLetter | Delay):
        return Reject()
    return settlement


async def _tell(outcome: Outcome) -> None:
    """Say that the settlement is safe; the ack follows even if nobody can note it down."""
    if outcome.on_settled is None:
        return
    try:
        await outcome.on_settled()
    except Exception:  # noqa: BLE001 - the store's trouble; the settlement itself stands
        _log.exception("a settlement could not be noted")
