"""Where a job stands when its run begins: its claim, its clocks, and what it has used so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from worker.facts import JobFacts, printable
from worker.flags import Flags
from worker.message import Job
from worker.meter import Meter
from worker.settings import Settings
from worker.store import Claim, ProgramRecord, Spent, Ticket

UNPROTECTED_WARNING = "The job has neither message_id nor correlation_id: if it is delivered again, it runs again"


@dataclass(slots=True)
class Standing:
    """Where a job stands when its run begins.

    Attributes:
        ticket: What was claimed; None for a job without a row.
        token: Names the claim.
        program: The program that the job names, as of the claim.
        attempts: Earlier runs that reached the LM, in this generation.
        first_delivered_ms: Unix milliseconds of the first delivery.
        meter: What the job has used so far.
        flags: As of the claim.
        is_cancelled: Whether the job was cancelled before it started.
        fingerprint: Signature fingerprint, once it is known.
        lm: LM alias, once it is decided.
        tenant: Whose job it is; empty where tenancy is off.
        crashes: Claims of the job whose worker died under them, without having been told to stop.
        stops: Claims of the job whose worker was told to stop, and died before the job ended.
    """

    ticket: Ticket | None
    token: str
    program: ProgramRecord | None
    attempts: int
    first_delivered_ms: int
    meter: Meter
    flags: Flags = field(default_factory=Flags)
    is_cancelled: bool = False
    fingerprint: str | None = None
    lm: str | None = None
    tenant: str = ""
    crashes: int = 0
    stops: int = 0
    warnings: list[Any] = field(default_factory=list)

    @property
    def attempts_now(self) -> int:
        """Runs that reached the LM, this one included."""
        return self.attempts + (1 if self.meter.calls_now else 0)

    @property
    def has_history(self) -> bool:
        """Whether the row tells of more than a delivery that cost nothing, and must therefore be kept."""
        return self.ticket is not None and (self.attempts_now > 0 or self.ticket.generation > 0)

    @property
    def spent(self) -> Spent:
        """What this delivery has used, for the job's row."""
        meter = self.meter
        return Spent(lm_calls=meter.calls_now, cost_usd=None if meter.is_unpriced else meter.cost_now)

    def facts(self, job: Job, *, code: str | None = None) -> JobFacts:
        """Return what the log says of the job.

        Args:
            job: The job.
            code: The error's code, where the outcome's own says only what becomes of the job.
        """
        asked = JobFacts.of_args(job.args, attempts=self.attempts_now, code=code)
        version = self.program.version if self.program is not None else None
        return replace(asked, version=version, lm=printable(self.lm) or asked.lm, cost_usd=self.meter.cost_usd)

    @classmethod
    def of(cls, job: Job, claim: Claim | None, *, settings: Settings, flags: Flags, now_ms: int) -> Self:
        """Return the standing of a job that was claimed, or that has no row to claim."""
        trail = job.delivery.trail
        return cls(
            ticket=ticket_of(job, job.key) if job.key is not None else None,
            token=claim.token if claim else "",
            program=claim.program if claim else None,
            attempts=claim.attempts if claim else trail.attempts,
            first_delivered_ms=trail.first_delivered_ms or (claim.first_seen_ms if claim else now_ms),
            meter=_meter(job, claim, max_calls=settings.max_lm_calls),
            flags=flags,
            is_cancelled=claim.is_cancelled if claim else False,
            tenant=job.tenant,
            crashes=claim.crashes if claim else 0,
            stops=claim.stops if claim else 0,
            warnings=[*job.warnings, *([] if claim else [UNPROTECTED_WARNING])],
        )


def ticket_of(job: Job, key: str) -> Ticket:
    """Return what a job claims under its key."""
    program_id = job.args.get("program_id")
    return Ticket(
        job_key=key,
        body_hash=job.body_hash,
        generation=job.delivery.trail.generation,
        program_id=program_id if isinstance(program_id, str) else None,
        tenant=job.tenant,
        is_rerun=job.delivery.is_rerun,
    )


def _meter(job: Job, claim: Claim | None, *, max_calls: int) -> Meter:
    """Return a meter that knows earlier deliveries: from the row, or as far as the message itself tells."""
    if claim is None:
        attempts = job.delivery.trail.attempts
        return Meter(
            max_calls=max_calls,
            deadline_ms=job.deadline_ms,
            calls_before=attempts,
            is_unpriced=attempts > 0,
            tenant=job.tenant,
        )
    return Meter(
        max_calls=max_calls,
        deadline_ms=job.deadline_ms,
        calls_before=claim.lm_calls,
        calls_lost=claim.crashes + claim.stops,
        cost_before=claim.cost_usd or 0.0,
        is_unpriced=claim.unpriced_lm_calls > 0,
        tenant=job.tenant,
    )
