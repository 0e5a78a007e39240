"""How a run ends that brought no success: delayed, refused, failed, cancelled.

Stored are errors after an LM call, so that their reply can be repeated. What cost nothing leaves no row behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from worker.errors import (
    BudgetExceededError,
    CallerGoneError,
    CancelledJobError,
    ExpiredError,
    InternalError,
    ProgramNotFoundError,
    RunError,
    TransientLMError,
    WorkerError,
)
from worker.inbox.outcomes import Outcomes, write_settlement
from worker.inbox.rows import Rows
from worker.message import Ack, AckIfReplied, DeadLetter, Job, Letter, Outcome, Settlement, encode_error
from worker.retries import Retries
from worker.settings import Settings
from worker.standing import Standing
from worker.store import StoredOutcome
from worker.telemetry import log_bug

# A job that names a program which another worker may still be creating.
_WAITING = frozenset({"execute_program", "execute_gemini_program"})
_DEAD_LETTERED_TTL_MS = 30 * 86_400_000
# So much earlier than its copy leaves the ladder may a job be claimed: the broker's clock and the store's are not one, and
# to come a little early must not cost a second hop.
_UNEVEN_CLOCKS_MS = 100


class Endings:
    """Ends the runs that brought no success.

    Args:
        rows: The jobs' rows.
        outcomes: What the consumer is told.
        settings: Ladder, attempts, age and lifetimes.
        clock_ms: Unix milliseconds now.
    """

    def __init__(self, rows: Rows, outcomes: Outcomes, settings: Settings, *, clock_ms: Callable[[], int]) -> None:
        self._rows = rows
        self._outcomes = outcomes
        self._settings = settings
        self._retries = Retries.of(settings)
        self._ttl_ms = round(settings.result_ttl_seconds * 1_000)
        self._clock_ms = clock_ms

    async def end(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        """End a job with an error; a bug on the way must not leave its row with this process.

        Raises:
            WorkerError: A refusal that cost nothing; the caller answers it.
        """
        error.facts = standing.facts(job)
        try:
            return await self._end(job, standing, error)
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - whatever it is, the row must not stay with this process
            return await self.fail(job, standing, report_bug(bug, command=job.command))

    async def fail(self, job: Job, standing: Standing, error: RunError) -> Outcome:
        """End the job with an error that is stored, answered and dead-lettered."""
        error.attempts = standing.attempts_now
        error.facts = standing.facts(job)
        settlement = DeadLetter(Letter.of(error, fingerprint=standing.fingerprint))
        return await self._keep(job, standing, error, settlement=settlement, ttl_ms=_DEAD_LETTERED_TTL_MS)

    async def _end(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        match error:
            case ProgramNotFoundError() if job.command in _WAITING and not job.delivery.trail.waits:
                return await self._wait_for_program(job, standing, error)
            case CancelledJobError():
                return await self._give_up(job, standing, error)
            case CallerGoneError():
                return await self._answer_nobody(job, standing, error)
            case TransientLMError():
                return await self._retry_later(job, standing, error)
            case RunError():
                return await self.fail(job, standing, error)
            case _:
                return await self._refuse(job, standing, error)

    async def _retry_later(self, job: Job, standing: Standing, error: TransientLMError) -> Outcome:
        """Put the job on the ladder, or end it where attempts, age or deadline are used up."""
        is_attempt = standing.meter.calls_now > 0
        exhausted = standing.meter.exhausted
        if is_attempt and exhausted is not None:
            return await self.fail(job, standing, BudgetExceededError(f"{exhausted}; the last one: {error.reason}"))
        step_ms = self._next_step(job, standing, error)
        if step_ms is None:
            return await self.fail(job, standing, error)
        # Also a delivery that does not come from the ladder, because this one's channel has died, waits for its time.
        await self._rows.release(standing, is_attempt=is_attempt, pause_ms=max(step_ms - _UNEVEN_CLOCKS_MS, 0))
        return self._outcomes.delayed(job, standing, step_ms, code=error.code, waits=0 if is_attempt else 1)

    def _next_step(self, job: Job, standing: Standing, error: TransientLMError) -> int | None:
        left_ms = self._retries.left_ms(
            now_ms=self._clock_ms(), first_delivered_ms=standing.first_delivered_ms, deadline_ms=job.deadline_ms
        )
        waits = job.delivery.trail.waits
        return self._retries.next_step(error, attempts=standing.attempts_now, waits=waits, left_ms=left_ms)

    async def _wait_for_program(self, job: Job, standing: Standing, error: ProgramNotFoundError) -> Outcome:
        """Give a program that another worker is still creating one hop's time to appear."""
        await self._rows.release(standing, is_attempt=False)
        return self._outcomes.delayed(job, standing, self._settings.delays_ms[0], code=error.code, waits=1)

    async def _refuse(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        """Drop the row of a refusal that cost nothing, and raise it; keep the error where a run did cost."""
        error.attempts = standing.attempts_now
        if not standing.has_history:
            await self._rows.forget(standing)
            raise error
        letter = Letter.of(error, fingerprint=standing.fingerprint)
        settlement = Ack() if isinstance(error, ExpiredError) else AckIfReplied(letter)
        return await self._keep(job, standing, error, settlement=settlement, ttl_ms=self._ttl_ms)

    async def _answer_nobody(self, job: Job, standing: Standing, error: CallerGoneError) -> Outcome:
        """End a job whose caller has gone; where earlier runs did cost, its row says so to whoever asks for the result.

        Nobody is answered. Another delivery whose caller is there goes on where this one ended.
        """
        ended = await self._refuse(job, standing, error)
        return replace(ended, reply=None, settlement=Ack(), on_settled=None) if ended.code == error.code else ended

    async def _keep(
        self, job: Job, standing: Standing, error: WorkerError, *, settlement: Settlement, ttl_ms: int
    ) -> Outcome:
        """Store an error with what is to become of the message, and answer with what is stored then."""
        body = encode_error(job.id, error, now_ms=self._clock_ms())
        outcome = StoredOutcome(False, error.code, body, write_settlement(settlement))
        stored = await self._rows.finish(standing, outcome, ttl_ms=ttl_ms)
        if stored.is_success:
            return self._outcomes.succeeded(job, standing, stored)
        if not stored.is_stored:
            return self._outcomes.elsewhere(job, first_ms=standing.first_delivered_ms)
        replied = self._outcomes.replied(job, stored, settlement, attempts=error.attempts)
        return replace(replied, facts=error.facts)

    async def _give_up(self, job: Job, standing: Standing, error: CancelledJobError) -> Outcome:
        """Free the row of a job that was cancelled, and raise; what it did cost stays counted.

        Nothing is stored as its result: a cancel's mark lives on, and answers every later delivery alike. Where another
        run of the job was taken over and has brought a success meanwhile, that is the answer.
        """
        error.attempts = standing.attempts_now
        if standing.has_history:
            await self._rows.release(standing, is_attempt=standing.meter.calls_now > 0)
        else:
            await self._rows.forget(standing)
        stored = await self._rows.get_result(standing)
        if stored is not None and stored.is_success:
            return self._outcomes.succeeded(job, standing, stored)
        raise error


def report_bug(error: Exception, *, command: str) -> InternalError:
    """Log where an unexpected error came from, and return what the caller is told.

    Its message stays out of the log: it may quote the payload, and payloads are not logged.
    """
    log_bug(error, event="job.bug", command=command)
    return InternalError("internal error; the worker's log has the details")
