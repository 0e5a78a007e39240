"""Send the reply and settle the message: the end of every job.

======================= =============================================================================================
Settlement              what is done, after the reply was published with a confirm
======================= =============================================================================================
``Ack``                 ack; a reply that nobody took is counted and stays in the store; one that is too large for the
                        broker is replaced by an error, and the message is dead-lettered
``AckIfReplied``        ack if the reply was taken, else as ``DeadLetter``
``DeadLetter``          copy to the dead-letter queue, confirm, ack; while that queue is full, consuming pauses, and
                        a stop gives the message back
``Delay``               copy to a step of the delay ladder, confirm, ack
``Reject``              reject without a copy: the broker dead-letters the message as it is
``Leave``               nothing: the broker delivers it again
``Isolate``             as its ``later``, a ``Delay``: there was no room to run it alone (see `worker.amqp.consumer`)
``GiveBack``            requeue, once the lane is paused: else the broker would bring it back at once
======================= =============================================================================================

A message whose channel is gone is left alone in every case: the broker has it back already. One that cannot be
copied (oversized headers) is rejected where a copy was asked for.

See Also:
    docs/WIRE.md: the settlement table.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import assert_never

import structlog

from worker import telemetry
from worker.amqp.alone import unless
from worker.amqp.clock import now_ms
from worker.amqp.errors import DeadLetterRefusedError, ReplyTooLargeError
from worker.amqp.incoming import Incoming
from worker.amqp.intake import Intake
from worker.amqp.job_lines import log_end
from worker.amqp.publisher import Publisher
from worker.errors import InternalError, OutputInvalidError
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Delivery,
    GiveBack,
    Isolate,
    Leave,
    Letter,
    Outcome,
    Reject,
    Settlement,
    make_unsendable,
)
from worker.settings import Settings

DEAD_LETTER_RETRY_SECONDS = 3.0
# How long a message that goes back waits for its lane to be paused, and how long it then keeps the lane paused itself.
GIVE_BACK_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Settler:
    """Ends jobs.

    Args:
        publisher: Sends replies and copies.
        intake: Paused where nothing more can be taken.
        settings: Whether there are tenants.
        stopping: Set when the worker stops.
    """

    def __init__(self, publisher: Publisher, intake: Intake, *, settings: Settings, stopping: asyncio.Event) -> None:
        self._has_tenants = settings.tenancy == "user_id"
        self._publisher = publisher
        self._intake = intake
        self._stopping = stopping

    async def end(self, incoming: Incoming, outcome: Outcome) -> None:
        """Publish the reply, and only then settle."""
        try:
            is_replied = await self._reply(outcome)
        except ReplyTooLargeError as error:
            outcome, is_replied = await self._refuse(outcome, OutputInvalidError(str(error)))
        await self._settle(incoming, outcome, is_replied=is_replied)

    def log_rejected(self, incoming: Incoming | None) -> None:
        """Log that a message was rejected because of a fault of this package; None where it could not even be read."""
        if incoming is not None:
            rejected = Outcome(None, Reject(), code=InternalError.code)
            log_end(incoming.delivery, rejected, Reject(), has_tenants=self._has_tenants)

    async def _reply(self, outcome: Outcome) -> bool:
        """Publish the reply, if there is one, and tell whether somebody took it."""
        if outcome.reply is None:
            return False
        is_taken = await self._publisher.reply(outcome.reply)
        if not is_taken:
            telemetry.REPLIES_UNDELIVERABLE.inc()
            _log.info("reply.undelivered", reply_to=outcome.reply.reply_to, code=outcome.code)
        return is_taken

    async def _refuse(self, outcome: Outcome, error: OutputInvalidError) -> tuple[Outcome, bool]:
        """Answer with an error in place of a reply that the broker does not take; such a message is never just acked."""
        _log.error("reply.too_large", reason=str(error), code=outcome.code)
        settlement = outcome.settlement
        if isinstance(settlement, Ack):
            settlement = DeadLetter(Letter.of(error))
        reply = None if outcome.reply is None else make_unsendable(outcome.reply, error, now_ms=now_ms())
        outcome = replace(outcome, reply=reply, settlement=settlement, code=error.code)
        with suppress(ReplyTooLargeError):
            return outcome, await self._reply(outcome)
        return outcome, False

    async def _settle(self, incoming: Incoming, outcome: Outcome, *, is_replied: bool) -> None:
        settlement = _resolve(outcome.settlement, incoming.delivery, is_replied=is_replied)
        if incoming.is_gone:
            _log.debug("message.returned", queue=incoming.queue)
            return
        match settlement:
            case Ack():
                await _tell(outcome)
                await incoming.ack()
            case DeadLetter():
                settlement = await self._bury(incoming, outcome, settlement)
            case Delay():
                await self._publisher.delay(incoming, settlement)
                await _tell(outcome)
                await incoming.ack()
            case Reject():
                await _tell(outcome)
                await incoming.reject()
            case Leave():
                pass
            case GiveBack():
                await self._give_back(incoming)
            case _:
                assert_never(settlement)
        telemetry.SETTLEMENTS.labels(_LABELS[type(settlement)]).inc()
        log_end(incoming.delivery, outcome, settlement, has_tenants=self._has_tenants)

    async def _give_back(self, incoming: Incoming) -> None:
        """Requeue while the lane is not consumed; where nobody pauses it, do so for a while."""
        lane = incoming.delivery.lane
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._intake.quiet(lane)
            await incoming.requeue()
        except TimeoutError:
            async with self._intake.paused("a job cannot be claimed", lanes=(lane,)):
                await incoming.requeue()
                await unless(self._stopping, asyncio.sleep(GIVE_BACK_SECONDS))

    async def _bury(self, incoming: Incoming, outcome: Outcome, settlement: DeadLetter) -> DeadLetter | GiveBack:
        """Dead-letter, or give back what is not taken before the worker stops; return what was done."""
        lm = outcome.facts.lm if outcome.facts is not None else None
        if not await self._dead_letter(incoming, settlement.letter, lm=lm):
            # Consuming is over, or the broker has it already: it does not come back here at once.
            await incoming.requeue()
            return GiveBack()
        await _tell(outcome)
        await incoming.ack()
        return settlement

    async def _dead_letter(self, incoming: Incoming, letter: Letter, *, lm: str | None) -> bool:
        """Copy to the dead-letter queue, and tell whether it is there; while it is full, take nothing new and wait."""
        try:
            await self._publisher.dead_letter(incoming, letter, lm=lm)
        except DeadLetterRefusedError as error:
            async with self._intake.paused(str(error)):
                return await self._dead_letter_patiently(incoming, letter, lm=lm)
        return True

    async def _dead_letter_patiently(self, incoming: Incoming, letter: Letter, *, lm: str | None) -> bool:
        """Try until there is room, unless the worker stops or the broker has the message back: it comes again then."""
        while True:
            await unless(self._stopping, asyncio.sleep(DEAD_LETTER_RETRY_SECONDS))
            if self._stopping.is_set() or incoming.is_gone:
                return False
            with suppress(DeadLetterRefusedError):
                await self._publisher.dead_letter(incoming, letter, lm=lm)
                return True


_LABELS: dict[type[Settlement], str] = {
    Ack: "ack",
    DeadLetter: "dead_letter",
    Delay: "delay",
    Reject: "reject",
    Leave: "leave",
    GiveBack: "give_back",
}


def _resolve(
    settlement: Settlement, delivery: Delivery, *, is_replied: bool
) -> Ack | DeadLetter | Delay | Reject | Leave | GiveBack:
    """Decide what depends on the reply, reject what cannot be copied, and isolate nothing twice."""
    if isinstance(settlement, Isolate):
        settlement = settlement.later
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
    except Exception as error:  # noqa: BLE001 - the store's trouble; the settlement itself stands
        telemetry.log_bug(error, event="settlement.not_noted")
