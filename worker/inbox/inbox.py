"""Whose a job is, and what follows: run it, join its run, repeat its reply, or look again later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from worker.errors import IdempotencyConflictError, InvalidRequestError, RefusedError, WorkerError, WorkerLostError
from worker.flags import Flags
from worker.inbox.endings import Endings, report_bug
from worker.inbox.joins import Joins
from worker.inbox.outcomes import Outcomes
from worker.inbox.rows import Rows
from worker.message import (
    HEADER_RERUN,
    MAX_KEPT_BYTES,
    Delay,
    Job,
    Outcome,
    check_deadline,
    encode_success,
    resume_deadline,
    too_large,
)
from worker.runs import Runs, cancelled
from worker.settings import Settings
from worker.standing import Standing
from worker.store import Claim, Holding, Store, StoredOutcome, StoreUnavailableError, Verdict

# A job that was running each of so many times that its worker died is taken for the killer.
MAX_CRASHES = 3
# From so many on it runs alone. One crash is most often not the job's fault, and a worker that was killed with a thousand
# jobs in hand must not leave a thousand to be run one by one; a killer has company twice, and harms nobody for good.
CRASHES_TO_ISOLATE = 2
# The platform's kills tell nothing against a job, so it has company for longer; but one that makes its worker too slow to
# stop in time is no neighbour to be stopped with.
STOPS_TO_ISOLATE = 3
# Claims that one delivery makes in a row, where runs that it joins end without an outcome.
_MAX_CLAIMS = 4

log = structlog.get_logger()

# Does the work of a command and returns its stored success.
Run = Callable[[Job, Standing], Awaitable[StoredOutcome]]


def unanswerable(problem: str) -> InvalidRequestError:
    """Return the refusal of a command whose result would be too large, for all that is known because of what was sent."""
    return InvalidRequestError(f"The job cannot be answered: {problem}; shorten its id and what it names")


class Inbox:
    """The jobs of this worker, each run once.

    Args:
        store: Where their rows are.
        settings: Ladder, attempts, age and lifetimes.
        clock_ms: Unix milliseconds now.
    """

    def __init__(self, store: Store, settings: Settings, *, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._settings = settings
        self._clock_ms = clock_ms
        self._rows = Rows(store, settings)
        self._outcomes = Outcomes(self._rows, settings)
        self._endings = Endings(self._rows, self._outcomes, settings, clock_ms=clock_ms)
        self._joins = Joins()
        self._runs = Runs()

    async def once(self, job: Job, run: Run) -> Outcome:
        """Run a job, unless it was run before or runs elsewhere, and return how it ends.

        Raises:
            WorkerError: A refusal that cost nothing; the caller answers it.
            StoreUnavailableError: The store is down for long; nothing was run.
        """
        if job.key is None:
            standing = self._standing(job, None, flags=await self._rows.get_flags())
            return await self._run(job, standing, run)
        came_ms = self._clock_ms()
        for _ in range(_MAX_CLAIMS):
            claim = await self._rows.claim(job, job.key)
            match claim.verdict:
                case Verdict.MINE:
                    return await self._lead(_as_claimed(job, claim), claim, run)
                case Verdict.CONFLICT | Verdict.AHEAD:
                    raise _refusal(job, claim)
                case Verdict.STORED if claim.stored is not None:
                    return self._outcomes.repeated(job, claim.stored)
                case Verdict.HERE if not self._joins.has_living((job.tenant, job.key)):
                    joined = await self._joins.ended((job.tenant, job.key), job.delivery)
                    if joined is not None and isinstance(joined.settlement, Delay):
                        return self._outcomes.joined(job, joined.settlement, first_ms=came_ms)
                case _:
                    break
        return self._outcomes.elsewhere(job, first_ms=came_ms)

    async def keep(self, standing: Standing, success: StoredOutcome) -> StoredOutcome:
        """Store a success and return what is stored now: the first success wins, whoever paid for it."""
        return await self._rows.finish(standing, success, ttl_ms=self.ttl_ms)

    def success(
        self, job: Job, result: dict[str, Any], *, refusal: Callable[[str], WorkerError] = unanswerable
    ) -> StoredOutcome:
        """Return a success as it will be stored.

        Args:
            job: The job.
            result: Its result.
            refusal: Makes the error of a result that is too large to be sent, from what is wrong.

        Raises:
            WorkerError: It is; nothing was stored.
        """
        body = encode_success(job.id, result, now_ms=self._clock_ms())
        problem = too_large(body, most=MAX_KEPT_BYTES)
        if problem is not None:
            raise refusal(problem)
        return StoredOutcome(is_success=True, code=None, reply=body, settlement="")

    @property
    def ttl_ms(self) -> int:
        """Lifetime of a stored result in milliseconds."""
        return round(self._settings.result_ttl_seconds * 1_000)

    def holding(self, standing: Standing) -> Holding:
        """Return what a change needs to store its outcome in its own transaction."""
        return Holding(standing.ticket, standing.token, self.ttl_ms, standing.tenant)

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

    async def _lead(self, job: Job, claim: Claim, run: Run) -> Outcome:
        """Run a claimed job; its further deliveries join it here."""
        standing = self._standing(job, claim, flags=claim.flags)
        with self._joins.leading((job.tenant, job.key or ""), job.delivery) as lead:
            lead.outcome = await self._run(job, standing, run)
            return lead.outcome

    def _standing(self, job: Job, claim: Claim | None, *, flags: Mapping[str, str]) -> Standing:
        held = Flags.of(self._settings, flags)
        return Standing.of(job, claim, settings=self._settings, flags=held, now_ms=self._clock_ms())

    async def _run(self, job: Job, standing: Standing, run: Run) -> Outcome:
        try:
            self._check_startable(job, standing)
            if _needs_isolation(standing) and not job.delivery.is_alone:
                return await self._isolate(job, standing)
            stored = await run(job, standing)
        except (asyncio.CancelledError, StoreUnavailableError):
            # The store is asked for what a run needs only where there is no claim that would have told.
            await self._rows.give_back(standing)
            raise
        except WorkerError as error:
            return await self._endings.end(job, standing, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the row must not stay with this process
            return await self._endings.fail(job, standing, report_bug(error, command=job.command))
        return self._outcomes.succeeded(job, standing, stored)

    def _check_startable(self, job: Job, standing: Standing) -> None:
        if standing.is_cancelled:
            raise cancelled()
        if standing.crashes >= MAX_CRASHES:
            raise WorkerLostError(f"its worker died {standing.crashes} times while it ran")
        if standing.stops >= self._settings.max_stops:
            raise _stopped_too_often(standing.stops, drain=self._settings.drain)
        check_deadline(job, now_ms=self._clock_ms())

    async def _isolate(self, job: Job, standing: Standing) -> Outcome:
        """Let a job that may have killed its worker run with nothing else in hand, so that it takes no neighbour along.

        Whoever was in hand with a killer has its crashes counted; only the killer gets the last one, for it runs alone.
        """
        await self._rows.release(standing, is_attempt=False)
        log.warning("job.isolated", message_id=job.key, crashes=standing.crashes, stops=standing.stops)
        return self._outcomes.isolated(job, standing)


def _as_claimed(job: Job, claim: Claim) -> Job:
    """Return the job as what it is run as.

    A rerun may have found the generation before it still unfinished, and a job that was begun before has its deadline.
    """
    if claim.first_seen_ms < claim.now_ms:
        job = resume_deadline(job, began_ms=claim.first_seen_ms)
    delivery = job.delivery
    return replace(job, delivery=replace(delivery, trail=replace(delivery.trail, generation=claim.generation)))


def _refusal(job: Job, claim: Claim) -> RefusedError:
    if claim.verdict is Verdict.CONFLICT:
        return IdempotencyConflictError("The same message id was used before with other content")
    wanted = job.delivery.trail.generation - 1
    return InvalidRequestError(
        f"{HEADER_RERUN} asks for another run after generation {wanted}, and the job is only at generation "
        f"{claim.generation}: send the generation of the reply that failed",
        field=HEADER_RERUN,
    )


def _needs_isolation(standing: Standing) -> bool:
    return standing.crashes >= CRASHES_TO_ISOLATE or standing.stops >= STOPS_TO_ISOLATE


def _stopped_too_often(stops: int, *, drain: float) -> WorkerLostError:
    times = "once" if stops == 1 else f"{stops} times"
    return WorkerLostError(
        f"the platform stopped and then killed its worker {times} while it ran; give workers more time to stop than "
        f"DSPEX_DRAIN_SECONDS ({drain:g} s), on Kubernetes with terminationGracePeriodSeconds"
    )
