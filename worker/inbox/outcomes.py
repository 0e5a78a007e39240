"""What the consumer is told about a job: the reply, and what happens to its message.

Waits that are no attempt (`Outcomes.elsewhere`, `Outcomes.isolated`) never end a job by its age. The job has not
failed: another run has it, and ends it within its own clocks, or nothing ran yet. To end it here could answer with an
error what was paid for already, or lose what nobody has tried. Hops are cheap instead, and grow: they begin with the
shortest step, so that a dead owner's job is taken over soon after the lease.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from worker.facts import JobFacts
from worker.inbox.rows import Rows
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Isolate,
    Job,
    Letter,
    Outcome,
    Settlement,
    make_reply,
    mark_stored,
)
from worker.retries import hop
from worker.settings import Settings
from worker.standing import Standing
from worker.store import StoredOutcome

# So many hops of one step before the next longer one.
_HOPS_OF_ONE_STEP = 5
_IF_UNHEARD = "if_unheard"


class Outcomes:
    """Makes outcomes.

    Args:
        rows: Learns of confirmed dead letters.
        settings: Namespace, ladder, tenancy.
    """

    def __init__(self, rows: Rows, settings: Settings) -> None:
        self._rows = rows
        self._settings = settings

    def succeeded(self, job: Job, standing: Standing, stored: StoredOutcome) -> Outcome:
        """Send what a run has stored."""
        settlement: Settlement = Ack()
        if standing.ticket is None and job.delivery.reply_to is not None:
            text = "The reply queue is gone, and the job has no id to keep its result under"
            settlement = AckIfReplied(Letter("caller_gone", text, standing.attempts_now, standing.fingerprint))
            replied = self.replied(job, stored, settlement, attempts=standing.attempts_now)
            return replace(replied, facts=standing.facts(job))
        return self.replied(job, stored, settlement, attempts=standing.attempts_now)

    def repeated(self, job: Job, stored: StoredOutcome) -> Outcome:
        """Send a stored reply again; what was to become of the message is repeated only until it was confirmed once."""
        settlement: Settlement = Ack()
        is_of_this_generation = stored.generation == job.delivery.trail.generation
        if is_of_this_generation and not stored.is_settled:
            settlement = read_settlement(stored.settlement)
        attempts = _attempts_told(stored.reply)
        replied = self.replied(job, stored, settlement, attempts=attempts)
        if stored.is_success or stored.is_settled:
            return replied
        # The worker that stored it may have died before it told.
        return replace(replied, facts=JobFacts.of_args(job.args, attempts=attempts))

    def replied(self, job: Job, stored: StoredOutcome, settlement: Settlement, *, attempts: int) -> Outcome:
        """Send a reply and settle as told; a dead letter is noted in the row once it is confirmed.

        The reply has the id of the generation that it belongs to, whichever one the delivery is of; and one that was read from
        the row says so.
        """
        delivery = job.delivery
        if job.key is not None and stored.generation != delivery.trail.generation:
            delivery = replace(delivery, trail=replace(delivery.trail, generation=stored.generation))
        reply = make_reply(
            delivery,
            stored.reply,
            job_key=job.key,
            namespace=self._settings.namespace,
            attempts=attempts,
            tenant=job.tenant,
        )
        if reply is not None and stored.stored_ms is not None:
            reply = mark_stored(reply, stored.stored_ms)
        on_settled = None
        if isinstance(settlement, DeadLetter | AckIfReplied) and job.key is not None:

            async def on_settled() -> None:
                await self._rows.mark_settled(job, generation=stored.generation)

        return Outcome(reply, settlement, code=stored.code or "ok", on_settled=on_settled)

    def delayed(self, job: Job, standing: Standing, step_ms: int, *, code: str, waits: int = 0) -> Outcome:
        """Copy the message to a step of the ladder.

        Args:
            job: The job.
            standing: Knows its attempts, and the time of its first delivery: the run may have taken long since.
            step_ms: The step.
            code: Why, for the log: the error's.
            waits: 1 for a hop that was no attempt.
        """
        trail = job.delivery.trail.since(standing.first_delivered_ms)
        trail = replace(trail, attempts=standing.attempts_now, waits=trail.waits + waits)
        return Outcome(None, Delay(step_ms, trail), code="delayed", facts=standing.facts(job, code=code))

    def elsewhere(self, job: Job, *, first_ms: int) -> Outcome:
        """Look again later: another delivery has the job, here or elsewhere, or a later generation of it waits.

        Args:
            job: The job.
            first_ms: Unix milliseconds of its first delivery, where its trail does not know that.
        """
        return Outcome(None, self._hop(job, first_ms=first_ms), code="delayed", facts=_elsewhere(job))

    def joined(self, job: Job, delay: Delay, *, first_ms: int) -> Outcome:
        """Wait as long as the run does that this delivery had joined; its own copy may never have been published."""
        trail = replace(job.delivery.trail.since(first_ms), attempts=delay.trail.attempts)
        return Outcome(None, Delay(delay.delay_ms, trail), code="delayed", facts=_elsewhere(job))

    def isolated(self, job: Job, standing: Standing) -> Outcome:
        """Ask for the job again when nothing else is in hand, or after a hop."""
        later = self._hop(job, first_ms=standing.first_delivered_ms)
        return Outcome(None, Isolate(later), code="isolated", facts=standing.facts(job))

    def _hop(self, job: Job, *, first_ms: int) -> Delay:
        trail = job.delivery.trail
        step_ms = hop(self._settings.delays_ms, trail.waits // _HOPS_OF_ONE_STEP)
        return Delay(step_ms, trail.waited(first_ms=first_ms))


def write_settlement(settlement: Settlement) -> str:
    """Write for the store what is to become of a message; empty for an ack."""
    match settlement:
        case DeadLetter(letter):
            return json.dumps(asdict(letter))
        case AckIfReplied(letter):
            return json.dumps({**asdict(letter), _IF_UNHEARD: True})
        case _:
            return ""


def read_settlement(text: str) -> Settlement:
    """Read what `write_settlement` wrote."""
    if not text:
        return Ack()
    values = json.loads(text)
    is_kept_if_unheard = values.pop(_IF_UNHEARD, False)
    return (AckIfReplied if is_kept_if_unheard else DeadLetter)(Letter(**values))


def _elsewhere(job: Job) -> JobFacts:
    return JobFacts.of_args(job.args, attempts=job.delivery.trail.attempts, code="elsewhere")


def _attempts_told(reply: bytes) -> int:
    """Return the attempts that a stored reply names: its header must not say anything else."""
    body = json.loads(reply)
    return int((body.get("result") or body.get("error_detail") or {}).get("attempts") or 0)
