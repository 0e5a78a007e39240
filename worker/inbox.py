"""Runs a job once: claim, run, store, and only then reply.

One row a job decides who runs it, wherever its deliveries turn up. What cost money is stored before it is published,
so a crash after that costs nothing again; what cost nothing is forgotten, so a corrected job may come back under the
same id. A job without any id has no row: it is plain at-least-once, and its replies say so.

See Also:
    docs/RELIABILITY.md: the states of a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

import structlog

from worker.errors import (
    BudgetExceededError,
    CancelledJobError,
    ExpiredError,
    IdempotencyConflictError,
    InternalError,
    ProgramNotFoundError,
    RunError,
    TransientLMError,
    WorkerError,
)
from worker.flags import Flags
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delay,
    Job,
    Letter,
    Outcome,
    Settlement,
    check_deadline,
    encode_error,
    encode_success,
    make_reply,
)
from worker.runs import Runs, cancelled
from worker.settings import Settings
from worker.standing import Standing, ticket_of
from worker.store import (
    Claim,
    Holding,
    Store,
    StoredOutcome,
    StoreUnavailableError,
    Verdict,
    steadily,
    uninterrupted,
)
from worker.telemetry import CLAIMS

# A job that names a program which another worker may still be creating.
_WAITING = frozenset({"execute_program", "execute_gemini_program"})
_DEAD_LETTERED_TTL_MS = 30 * 86_400_000

R = TypeVar("R")
log = structlog.get_logger()


# Does the work of a command and returns its stored success.
Run = Callable[[Job, Standing], Awaitable[StoredOutcome]]


class Inbox:
    """The rows of this worker's jobs.

    Args:
        store: Where they are.
        settings: Ladder, attempts, age and lifetimes.
        clock_ms: Unix milliseconds now.
    """

    def __init__(self, store: Store, settings: Settings, *, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._settings = settings
        self._clock_ms = clock_ms
        self._runs = Runs()

    async def once(self, job: Job, run: Run) -> Outcome:
        """Run a job, unless it was run before or runs elsewhere, and return how it ends.

        Raises:
            WorkerError: A refusal that cost nothing; the caller answers it.
        """
        claim = await self._claim(job)
        if claim is not None and claim.verdict is not Verdict.MINE:
            return self._not_mine(job, claim)
        flags = claim.flags if claim is not None else await steadily(self._store.get_flags)
        now_ms = self._clock_ms()
        held = Flags.of(self._settings, flags)
        standing = Standing.of(job, claim, settings=self._settings, flags=held, now_ms=now_ms)
        return await self._run(job, standing, run)

    async def keep(self, job: Job, standing: Standing, result: dict[str, Any]) -> StoredOutcome:
        """Store a success and return what is stored now: the first success wins, whoever paid for it."""
        return await self._finish(standing, self.success(job, result), ttl_ms=self.ttl_ms)

    def success(self, job: Job, result: dict[str, Any]) -> StoredOutcome:
        """Return a success as it will be stored."""
        body = encode_success(job.id, result, now_ms=self._clock_ms())
        return StoredOutcome(is_success=True, code=None, reply=body, settlement="")

    @property
    def ttl_ms(self) -> int:
        """Lifetime of a stored result in milliseconds."""
        return round(self._settings.result_ttl_seconds * 1_000)

    def holding(self, standing: Standing) -> Holding:
        """Return what a change needs to store its outcome in its own transaction."""
        return Holding(standing.ticket, standing.token, self.ttl_ms)

    def stoppable(self, standing: Standing) -> contextlib.AbstractContextManager[None]:
        """Let a cancel end the block; a job without a row has no name to cancel it by.

        Raises:
            CancelledJobError: It did.
        """
        ticket = standing.ticket
        return contextlib.nullcontext() if ticket is None else self._runs.stoppable((ticket.tenant, ticket.job_key))

    async def stop_cancelled(self) -> None:
        """Stop what runs in this process and has a cancel mark, whichever worker set it.

        Raises:
            StoreUnavailableError: The store cannot tell; what runs goes on.
        """
        running = self._runs.jobs
        if not running:
            return
        for one in await self._store.find_cancelled(running):
            if self._runs.stop(one):
                log.info("job.stopped", message_id=one[1])

    async def _run(self, job: Job, standing: Standing, run: Run) -> Outcome:
        try:
            if standing.is_cancelled:
                raise cancelled()
            check_deadline(job, now_ms=self._clock_ms())
            stored = await run(job, standing)
        except asyncio.CancelledError:
            await self._give_back(standing)
            raise
        except WorkerError as error:
            return await self._end_surely(job, standing, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must not stay with this process
            return await self._fail(job, standing, report_bug(error, command=job.command))
        return self._succeed(job, standing, stored)

    async def _end_surely(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        """End the job; a bug on the way must not leave its row with this process."""
        try:
            return await self._end(job, standing, error)
        except WorkerError:
            raise
        except Exception as bug:  # noqa: BLE001 - the same
            return await self._fail(job, standing, report_bug(bug, command=job.command))

    async def _end(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        match error:
            case ProgramNotFoundError() if job.command in _WAITING and not job.delivery.trail.waits:
                return await self._wait_for_program(job, standing)
            case CancelledJobError():
                return await self._give_up(job, standing, error)
            case TransientLMError():
                return await self._retry_later(job, standing, error)
            case RunError():
                return await self._fail(job, standing, error)
            case _:
                return await self._refuse(job, standing, error)

    async def _claim(self, job: Job) -> Claim | None:
        if job.key is None:
            return None
        ticket = ticket_of(job, job.key)
        claim = await steadily(lambda: self._store.claim(ticket))
        CLAIMS.labels(claim.verdict.value).inc()
        return claim

    def _not_mine(self, job: Job, claim: Claim) -> Outcome:
        match claim.verdict:
            case Verdict.CONFLICT:
                raise IdempotencyConflictError("The same message id was used before with other content")
            case Verdict.STORED if claim.stored is not None:
                return self._repeat(job, claim.stored)
            case _:
                return self._elsewhere(job)

    def _elsewhere(self, job: Job) -> Outcome:
        """Look again after the shortest step: another worker runs the job."""
        return self._delayed(job, self._settings.delays_ms[0], attempts=job.delivery.trail.attempts, waits=1)

    def _repeat(self, job: Job, stored: StoredOutcome) -> Outcome:
        """Send a stored reply again; a dead letter only until it was confirmed once."""
        settlement: Settlement = Ack()
        is_of_this_generation = stored.generation == job.delivery.trail.generation
        if is_of_this_generation and not stored.is_settled and stored.settlement:
            settlement = DeadLetter(Letter(**json.loads(stored.settlement)))
        return self._outcome(
            job, stored.reply, settlement, code=stored.code or "ok", attempts=_attempts_told(stored.reply)
        )

    def _succeed(self, job: Job, standing: Standing, stored: StoredOutcome) -> Outcome:
        settlement: Settlement = Ack()
        if standing.ticket is None and job.delivery.reply_to is not None:
            text = "The reply queue is gone, and the job has no id to keep its result under"
            settlement = AckIfReplied(Letter("caller_gone", text, standing.attempts_now, standing.fingerprint))
        return self._outcome(job, stored.reply, settlement, code=stored.code or "ok", attempts=standing.attempts_now)

    async def _retry_later(self, job: Job, standing: Standing, error: TransientLMError) -> Outcome:
        """Put the job on the ladder, or end it where attempts, age or deadline are used up."""
        exhausted = standing.meter.exhausted
        if exhausted is not None:
            return await self._fail(job, standing, BudgetExceededError(f"{exhausted}; the last one: {error.reason}"))
        step_ms = self._next_step(job, standing, error)
        if step_ms is None:
            return await self._fail(job, standing, error)
        await self._release(standing, is_attempt=True)
        log.info("job.delayed", code=error.code, attempts=standing.attempts_now, delay_ms=step_ms)
        return self._delayed(job, step_ms, attempts=standing.attempts_now, waits=0)

    def _next_step(self, job: Job, standing: Standing, error: TransientLMError) -> int | None:
        attempts = standing.attempts_now
        ladder = self._settings.delays_ms
        wanted_ms = max(error.retry_after_ms or 0, ladder[min(max(attempts, 1), len(ladder)) - 1])
        step_ms = next((step for step in ladder if step >= wanted_ms), None)
        if step_ms is None or attempts >= self._settings.max_attempts:
            return None
        due_ms = self._clock_ms() + step_ms
        is_too_old = due_ms > standing.first_delivered_ms + self._settings.max_age_seconds * 1_000
        is_too_late = job.deadline_ms is not None and due_ms > job.deadline_ms
        return None if is_too_old or is_too_late else step_ms

    async def _wait_for_program(self, job: Job, standing: Standing) -> Outcome:
        """Give a program that another worker is still creating one hop's time to appear."""
        await self._release(standing, is_attempt=False)
        return self._delayed(job, self._settings.delays_ms[0], attempts=standing.attempts, waits=1)

    async def _fail(self, job: Job, standing: Standing, error: RunError) -> Outcome:
        """End the job with an error that is stored, answered and dead-lettered."""
        error.attempts = standing.attempts_now
        letter = Letter.of(error, fingerprint=standing.fingerprint)
        body = encode_error(job.id, error, now_ms=self._clock_ms())
        outcome = StoredOutcome(False, error.code, body, json.dumps(asdict(letter)))
        outcome = await self._finish(standing, outcome, ttl_ms=_DEAD_LETTERED_TTL_MS)
        if outcome.is_success:
            return self._succeed(job, standing, outcome)
        if not outcome.is_stored:
            return self._elsewhere(job)
        return self._outcome(job, outcome.reply, DeadLetter(letter), code=error.code, attempts=error.attempts)

    async def _refuse(self, job: Job, standing: Standing, error: WorkerError) -> Outcome:
        """Drop the row of a refusal that cost nothing, and raise it; keep the error where a run did cost."""
        error.attempts = standing.attempts_now
        ticket = standing.ticket
        if ticket is None:
            raise error
        if error.attempts == 0 and ticket.generation == 0:
            await steadily(lambda: self._store.forget(ticket, token=standing.token))
            raise error
        body = encode_error(job.id, error, now_ms=self._clock_ms())
        stored = await self._finish(standing, StoredOutcome(False, error.code, body, ""), ttl_ms=self.ttl_ms)
        if stored.is_success:
            return self._succeed(job, standing, stored)
        if not stored.is_stored:
            return self._elsewhere(job)
        letter = Letter.of(error, fingerprint=standing.fingerprint)
        settlement = Ack() if isinstance(error, ExpiredError) else AckIfReplied(letter)
        return self._outcome(job, stored.reply, settlement, code=error.code, attempts=error.attempts)

    async def _give_up(self, job: Job, standing: Standing, error: CancelledJobError) -> Outcome:
        """Free the row of a cancelled job and raise; what it did cost stays counted.

        Nothing is stored as its result: the mark lives on, and answers every later delivery alike. Where another run of
        the job was taken over and has brought a success meanwhile, that is the answer.
        """
        error.attempts = standing.attempts_now
        ticket = standing.ticket
        if ticket is not None and error.attempts == 0 and ticket.generation == 0:
            await steadily(lambda: self._store.forget(ticket, token=standing.token))
        else:
            await self._release(standing, is_attempt=standing.meter.calls_now > 0)
        if ticket is not None:
            stored = await steadily(lambda: self._store.get_result(ticket.job_key, tenant=ticket.tenant))
            if stored is not None and stored.is_success:
                return self._succeed(job, standing, stored)
        raise error

    async def _finish(self, standing: Standing, outcome: StoredOutcome, *, ttl_ms: int) -> StoredOutcome:
        """Store an outcome, where there is a row, and return what is stored now."""
        ticket = standing.ticket
        if ticket is None:
            return outcome
        spent = standing.spent
        storing = steadily(
            lambda: self._store.finish(ticket, token=standing.token, outcome=outcome, spent=spent, ttl_ms=ttl_ms)
        )
        return await uninterrupted(storing)

    async def _release(self, standing: Standing, *, is_attempt: bool) -> None:
        ticket = standing.ticket
        if ticket is None:
            return
        spent = standing.spent
        await steadily(lambda: self._store.release(ticket, token=standing.token, spent=spent, is_attempt=is_attempt))

    async def _give_back(self, standing: Standing) -> None:
        """Free the claim of a job that the drain cut off; a store that is down leaves it to the lease."""
        if standing.ticket is None:
            return
        try:
            await self._store.release(standing.ticket, token=standing.token, spent=standing.spent, is_attempt=False)
        except StoreUnavailableError as error:
            log.warning("inbox.not_released", reason=str(error))

    def _delayed(self, job: Job, step_ms: int, *, attempts: int, waits: int) -> Outcome:
        trail = job.delivery.trail
        first_ms = trail.first_delivered_ms or self._clock_ms()
        later = replace(trail, attempts=attempts, waits=trail.waits + waits, first_delivered_ms=first_ms)
        return Outcome(None, Delay(step_ms, later), code="delayed")

    def _outcome(self, job: Job, body: bytes, settlement: Settlement, *, code: str, attempts: int) -> Outcome:
        reply = make_reply(job.delivery, body, job_key=job.key, namespace=self._settings.namespace, attempts=attempts)
        on_settled = None
        if isinstance(settlement, DeadLetter) and job.key is not None:
            ticket = ticket_of(job, job.key)

            async def on_settled() -> None:
                await steadily(lambda: self._store.mark_settled(ticket))

        return Outcome(reply, settlement, code=code, on_settled=on_settled)


def report_bug(error: Exception, *, command: str) -> InternalError:
    """Log where an unexpected error came from, and return what the caller is told.

    Its message stays out of the log: it may quote the payload, and payloads are not logged.
    """
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("job.bug", command=command, error=type(error).__name__, frames=frames[-12:])
    return InternalError("internal error; the worker's log has the details")


def _attempts_told(reply: bytes) -> int:
    """Return the attempts that a stored reply names: its header must not say anything else."""
    body = json.loads(reply)
    return int((body.get("result") or body.get("error_detail") or {}).get("attempts") or 0)
