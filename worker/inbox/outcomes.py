"""What the consumer is told about a job: the reply, and what happens to its message.

Waits that are no attempt (`Outcomes.elsewhere`, `Outcomes.isolated`) never end a job by its age. The job has not
failed: another run has it, and ends it within its own clocks, or nothing ran yet. To end it here could answer with an
error what was paid for already, or lose what nobody has tried. Hops are cheap instead, and grow: they begin with the
shortest step, so that a dead owner's job is taken over soon after the lease.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

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
)
from worker.settings import Settings
from worker.standing import Standing
from worker.store import StoredOutcome

# So many hops of one step before the next longer one; the longest step that a wait takes.
_HOPS_OF_ONE_STEP = 5
_LONGEST_WAIT_MS = 30_000


class Outcomes:
    """Makes outcomes.

    Args:
        rows: Learns of confirmed dead letters.
        settings: Namespace, ladder, tenancy.
        clock_ms: Unix milliseconds now.
    """

    def __init__(self, rows: Rows, settings: Settings, *, clock_ms: Callable[[], int]) -> None:
        self._rows = rows
        self._settings = settings
        self._clock_ms = clock_ms

    def succeeded(self, job: Job, standing: Standing, stored: StoredOutcome) -> Outcome:
        """Send what a run has stored."""
        settlement: Settlement = Ack()
        if standing.ticket is None and job.delivery.reply_to is not None:
            text = "The reply queue is gone, and the job has no id to keep its result under"
            settlement = AckIfReplied(Letter("caller_gone", text, standing.attempts_now, standing.fingerprint))
        return self.replied(job, stored, settlement, attempts=standing.attempts_now)

    def repeated(self, job: Job, stored: StoredOutcome) -> Outcome:
        """Send a stored reply again; a dead letter only until it was confirmed once."""
        settlement: Settlement = Ack()
        is_of_this_generation = stored.generation == job.delivery.trail.generation
        if is_of_this_generation and not stored.is_settled and stored.settlement:
            settlement = DeadLetter(Letter(**json.loads(stored.settlement)))
        return self.replied(job, stored, settlement, attempts=_attempts_told(stored.reply))

    def replied(self, job: Job, stored: StoredOutcome, settlement: Settlement, *, attempts: int) -> Outcome:
        """Send a reply and settle as told; a dead letter is noted in the row once it is confirmed."""
        reply = make_reply(
            job.delivery,
            stored.reply,
            job_key=job.key,
            namespace=self._settings.namespace,
            attempts=attempts,
            tenant=job.tenant,
        )
        on_settled = None
        if isinstance(settlement, DeadLetter) and job.key is not None:

            async def on_settled() -> None:
                await self._rows.mark_settled(job)

        return Outcome(reply, settlement, code=stored.code or "ok", on_settled=on_settled)

    def delayed(self, job: Job, step_ms: int, *, attempts: int, waits: int = 0) -> Outcome:
        """Copy the message to a step of the ladder.

        Args:
            job: The job.
            step_ms: The step.
            attempts: Runs so far that reached the LM.
            waits: 1 for a hop that was no attempt.
        """
        return Outcome(None, self._later(job, step_ms, attempts=attempts, waits=waits), code="delayed")

    def elsewhere(self, job: Job) -> Outcome:
        """Look again later: another worker runs the job, or a later generation of it waits."""
        return Outcome(None, self._hop(job), code="delayed")

    def joined(self, job: Job, delay: Delay) -> Outcome:
        """Wait as long as the run does that this delivery had joined; its own copy may never have been published."""
        return self.delayed(job, delay.delay_ms, attempts=delay.trail.attempts)

    def isolated(self, job: Job) -> Outcome:
        """Ask for the job again when nothing else is in hand, or after a hop."""
        return Outcome(None, Isolate(later=self._hop(job)), code="isolated")

    def _hop(self, job: Job) -> Delay:
        trail = job.delivery.trail
        steps = [step for step in self._settings.delays_ms if step <= _LONGEST_WAIT_MS] or self._settings.delays_ms[:1]
        step_ms = steps[min(trail.waits // _HOPS_OF_ONE_STEP, len(steps) - 1)]
        return self._later(job, step_ms, attempts=trail.attempts, waits=1)

    def _later(self, job: Job, step_ms: int, *, attempts: int, waits: int) -> Delay:
        trail = job.delivery.trail
        first_ms = trail.first_delivered_ms or self._clock_ms()
        later = replace(trail, attempts=attempts, waits=trail.waits + waits, first_delivered_ms=first_ms)
        return Delay(step_ms, later)


def _attempts_told(reply: bytes) -> int:
    """Return the attempts that a stored reply names: its header must not say anything else."""
    body = json.loads(reply)
    return int((body.get("result") or body.get("error_detail") or {}).get("attempts") or 0)
