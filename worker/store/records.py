"""What the store takes and gives: plain values, no behaviour.

All times are unix milliseconds by the store's clock; all costs are US dollars, and None means unknown, never free.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class CorruptRowError(Exception):
    """A row holds what this code never writes: its job fails, alone."""


class Verdict(enum.Enum):
    """What a claim found out about a job."""

    MINE = "mine"
    """The caller runs the job now, under the claim's token."""
    STORED = "stored"
    """The job is done: send the stored reply again."""
    HERE = "here"
    """This very process runs the job, under another claim. The answer may come a moment before that claim's own; and if
    its caller is gone by then, nobody runs the job, and the next claim gets it."""
    ELSEWHERE = "elsewhere"
    """Another living worker runs the job, or another generation of it runs or waits, or it waits for its next try and the
    time has not come: look again after the shortest ladder step."""
    CONFLICT = "conflict"
    """The same key and generation was used with other content."""
    AHEAD = "ahead"
    """It asks for a rerun of a generation that the job has not come to."""


class Cancellation(enum.Enum):
    """What became of the wish to cancel a job."""

    CANCELLED = "cancelled"
    """The job is marked: it will not start, and stops where it runs."""
    ALREADY_CANCELLED = "already_cancelled"
    """It was marked before."""
    TOO_LATE = "too_late"
    """The job is done; its stored reply stands."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a job wants to claim.

    Attributes:
        job_key: The idempotency key, one row per tenant and key.
        body_hash: SHA-256 of the job's content as hex digits; another hash under the same key is a conflict.
        generation: 0 at first, one more with each replay and each rerun.
        program_id: The program to read together with the claim, or None.
        tenant: The user the job belongs to; empty where tenancy is off.
        is_rerun: Whether this generation is wanted only if the one before it has ended with an error; its costs count on.
    """

    job_key: str
    body_hash: str
    generation: int = 0
    program_id: str | None = None
    tenant: str = ""
    is_rerun: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """The claim of a job that changes something: its outcome is stored together with the change.

    Attributes:
        ticket: The ticket of the claim, or None for a job without a row.
        token: The token of the claim.
        ttl_ms: Lifetime of the outcome, in milliseconds.
        tenant: Whose job it is, with a row or without; empty where tenancy is off.
    """

    ticket: Ticket | None
    token: str
    ttl_ms: int
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run used up.

    Attributes:
        lm_calls: Calls made to an LM.
        cost_usd: What they cost, or None where the price is unknown.
    """

    lm_calls: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """How a job ended.

    Attributes:
        is_success: Whether the reply is a result.
        code: The error's wire code, or None for a success.
        reply: The reply's body; repeated as it is, but for the mark of a stored one.
        settlement: What to do with the delivery; opaque to the store.
        generation: The generation that this outcome belongs to. The store fills it in.
        is_settled: Whether the settlement was carried out and confirmed once. The store fills it in.
        is_stored: False for the error of a run that was taken over meanwhile: the other run's ending counts.
        stored_ms: When it was stored, where it was read from the row; None for one that was stored just now.
    """

    is_success: bool
    code: str | None
    reply: bytes
    settlement: str
    generation: int = 0
    is_settled: bool = False
    is_stored: bool = True
    stored_ms: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ProgramRecord:
    """A program as stored.

    Attributes:
        program_id: The name that jobs use.
        revision: A fresh UUID with each create and replace; the only key to cache a program by.
        version: The number that users see, 1 at first.
        fingerprint: The program fingerprint; the same one under the same id is the same program.
        definition: JSON text, opaque to the store.
        created_ms: When the program was first created; a replace keeps it.
        executions: Runs counted so far, over all versions. Written in batches, so it lags.
        last_executed_ms: When the last batch with a run of it was written, or None.
        is_new: Whether this very call has made it, or this version of it.
    """

    program_id: str
    revision: str
    version: int
    fingerprint: str
    definition: str
    created_ms: int
    executions: int
    last_executed_ms: int | None
    is_new: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class NewProgram:
    """A program to create.

    Attributes:
        program_id: The name that jobs will use.
        fingerprint: The program fingerprint.
        definition: JSON text, opaque to the store.
        kind: What it is, in one word, to count by.
        replace: Whether another definition under this id becomes a new version, instead of an error.
        tenant: The user the program belongs to; empty where tenancy is off.
        ttl_ms: Lifetime of the creating job's outcome, in milliseconds.
    """

    program_id: str
    fingerprint: str
    definition: str
    kind: str = ""
    replace: bool = False
    tenant: str = ""
    ttl_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim found.

    Attributes:
        verdict: What to do with the job.
        token: Names this claim in later calls; empty unless the verdict is MINE.
        attempts: Runs of this generation that reached the LM before this one.
        crashes: Claims of this generation whose worker died under them, without having been told to stop.
        lm_calls: LM calls of this generation so far.
        cost_usd: Sum of the known costs of this generation so far; None while no cost is known.
        first_seen_ms: When this generation was first claimed.
        stored: The outcome, with STORED only.
        program: The program named by the ticket, or None.
        now_ms: The store's clock at the claim.
        unpriced_lm_calls: LM calls among ``lm_calls`` whose cost is unknown: where this is not 0, the true cost
            is higher than ``cost_usd``.
        flags: Name → value of the flags that were set, with MINE only.
        is_cancelled: Whether the job has a cancel mark, with MINE only.
        stops: Claims of this generation whose worker was told to stop, and died before the job ended.
        generation: The generation that the row is at now.
    """

    verdict: Verdict
    token: str
    attempts: int
    crashes: int
    lm_calls: int
    cost_usd: float | None
    first_seen_ms: int
    stored: StoredOutcome | None
    program: ProgramRecord | None
    now_ms: int
    unpriced_lm_calls: int = 0
    flags: Mapping[str, str] = field(default_factory=dict)
    is_cancelled: bool = False
    stops: int = 0
    generation: int = 0
