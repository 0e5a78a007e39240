"""The inbox: one row per job, and what moves it between its states.

=============================  =============================  =========================================================
from                           event                          to
=============================  =============================  =========================================================
–                              `claim`                        running
running, owner dead            `claim`                        running, crashes + 1
running, owner stopped, dead   `claim`                        running, stops + 1
running, owner this process    `claim`, same generation       unchanged: HERE
running, owner alive           `claim`                        unchanged: ELSEWHERE
running                        `finish` with a success        done(success), under any token
–                              `finish` with a success        done(success): whoever deleted the row had not paid
running                        `finish` with an error         done(error), under its own token
running                        `forget`                       row deleted, at generation 0 with no attempts
running                        `release`                      waiting, and attempts + 1 where it was an attempt
waiting, its time has come     `claim`                        running
waiting, its time is to come   `claim`, same generation       unchanged: ELSEWHERE
done                           `claim`, same generation       unchanged: STORED
done(error), `caller_gone`     `claim`                        running: somebody may wait for it now
done(error)                    `claim`, higher generation     running, counters 0, new content
done(success)                  `claim`, higher generation     unchanged: STORED
done(error)                    rerun of this generation       running at the next one, attempts, crashes and stops 0
any other                      rerun of this generation       as `claim`, same generation
any                            rerun of a later generation    unchanged: AHEAD
any                            `claim`, lower generation      unchanged: STORED if done, else ELSEWHERE
any                            `claim`, other content         unchanged: CONFLICT
done                           its lifetime passed            deleted by `sweep`
running, waiting               untouched for too long         deleted by `sweep`
=============================  =============================  =========================================================

A row that waits has a time only after LM trouble, until a claim or a cancel clears it: a delivery that comes before its
copy on the ladder must not call the LM before that. Any other release leaves the row free for whoever comes.

An owner that is told to stop writes that down for the rows that it runs (`worker.store.stops`), and a claim that it makes after that
tells it at once. Its death is then no sign against the job. A mark that is older than the claim is of an earlier one, left
by a worker that does not know the column, and does not count.

A rerun of a generation is a claim of the next one, with the same content only; where the row is at the next one already, it
is a claim of that, like any other. It keeps LM calls and costs, which stay within the job's bounds, and counts the calls that
dead workers took along among them.

A row that runs under a dead owner, or waits, takes a higher generation too, with counters 0 and whatever its time. A row
of this process under a token that it does not hold counts as one of a dead owner. However many crashes are counted, the
row can be claimed: what to do with a job that kills is not the store's business. Too long is the largest age of a job and
the lifetime of a result.

A success may come from any claim of the same content, because it was paid for; all that lose to it send its bytes.

Costs: ``cost_usd`` sums what is known and stays NULL while nothing is; calls without a known price are counted in
``unpriced_lm_calls``, so that a sum is never mistaken for the whole.

The functions take a connection inside a write transaction and are meant for `worker.store.store.Store` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Float,
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from worker.errors import CallerGoneError
from worker.store.records import CorruptRowError, Spent, StoredOutcome, Ticket
from worker.store.schema import NowMs, jobs

SWEEP_BATCH = 1000
"""Rows deleted in one transaction, so that a sweep never holds the write lock for long."""


@dataclass(frozen=True, slots=True)
class Tenure:
    """On whose behalf rows are claimed, and for how long.

    Attributes:
        namespace: The deployment.
        owner: This process, under a name that no other process ever had.
        lease_ms: How old a heartbeat may be before its owner counts as dead.
        row_age_ms: How long a row that is not done is kept after it was last touched.
        is_stopping: Whether this process was told to stop.
    """

    namespace: str
    owner: str
    lease_ms: int
    row_age_ms: int
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, what its last run used up, and how long to keep the outcome, in milliseconds."""

    outcome: StoredOutcome
    spent: Spent
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended without an outcome.

    Attributes:
        spent: What it used up.
        is_attempt: Whether it counts as an attempt because it reached the LM.
        pause_ms: How long nobody may claim the job, in milliseconds; None where anybody may at once.
    """

    spent: Spent
    is_attempt: bool
    pause_ms: int | None = None


OUTCOME = (
    jobs.c.generation,
    jobs.c.state,
    jobs.c.outcome,
    jobs.c.code,
    jobs.c.reply,
    jobs.c.settlement,
    jobs.c.settled_ms,
    jobs.c.stored_ms,
    jobs.c.claimed_ms,
)
"""The columns that `to_outcome` needs."""

_KEY = and_(
    jobs.c.namespace == bindparam("b_namespace"),
    jobs.c.tenant == bindparam("b_tenant"),
    jobs.c.job_key == bindparam("b_job_key"),
)
_ADD_SPENT: dict[str, Any] = {
    "lm_calls": jobs.c.lm_calls + bindparam("b_lm_calls", type_=Integer),
    "unpriced_lm_calls": jobs.c.unpriced_lm_calls + bindparam("b_unpriced", type_=Integer),
    "cost_usd": func.coalesce(
        jobs.c.cost_usd + bindparam("b_cost_usd", type_=Float(53)),
        bindparam("b_cost_usd", type_=Float(53)),
        jobs.c.cost_usd,
    ),
}

_ENDED: dict[str, Any] = {
    "state": "done",
    "outcome": bindparam("b_outcome", type_=Text),
    "code": bindparam("b_code", type_=Text),
    "reply": bindparam("b_reply", type_=LargeBinary),
    "settlement": bindparam("b_settlement", type_=Text),
    "stored_ms": NowMs(),
    "expires_ms": NowMs() + bindparam("b_ttl_ms", type_=BigInteger),
}
IS_GIVEN_UP = and_(jobs.c.state == "done", jobs.c.outcome == "error", jobs.c.code == CallerGoneError.code)
"""True for a job that ended only because nobody waited for it: a later delivery may run it on."""

_IS_SAME = jobs.c.body_hash == bindparam("b_body_hash")
_NEW_ROW: dict[str, Any] = {
    "namespace": bindparam("b_namespace"),
    "tenant": bindparam("b_tenant"),
    "job_key": bindparam("b_job_key"),
    "generation": bindparam("b_generation"),
    "body_hash": bindparam("b_body_hash"),
    "owner": "",
    "claim_token": "",
    "claimed_ms": NowMs(),
    "attempts": 0,
    "crashes": 0,
    "lm_calls": bindparam("b_lm_calls", type_=Integer),
    "unpriced_lm_calls": bindparam("b_unpriced", type_=Integer),
    "cost_usd": bindparam("b_cost_usd", type_=Float(53)),
    "first_seen_ms": NowMs(),
}
# A success was paid for: where another run of the job has deleted the row meanwhile, it makes a new one.
_FINISH_SUCCESS = {
    name: insert(jobs)
    .values(**_NEW_ROW, **_ENDED)
    .on_conflict_do_update(
        index_elements=[jobs.c.namespace, jobs.c.tenant, jobs.c.job_key],
        set_=_ENDED | _ADD_SPENT,
        where=and_(_IS_SAME, or_(jobs.c.state != "done", IS_GIVEN_UP)),
    )
    .returning(jobs.c.generation)
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_FINISH_ERROR = (
    update(jobs)
    .where(_KEY, _IS_SAME, jobs.c.state != "done", jobs.c.claim_token == bindparam("b_token"))
    .values(**_ENDED, **_ADD_SPENT)
    .returning(jobs.c.generation)
)
_RELEASE = (
    update(jobs)
    .where(_KEY, jobs.c.state == "running", jobs.c.claim_token == bindparam("b_token"))
    .values(
        state="waiting",
        owner="",
        claim_token="",
        attempts=jobs.c.attempts + bindparam("b_attempts", type_=Integer),
        expires_ms=NowMs() + bindparam("b_row_age_ms", type_=BigInteger),
        not_before_ms=NowMs() + bindparam("b_pause_ms", type_=BigInteger),
        stop_noted_ms=None,
        **_ADD_SPENT,
    )
)
_END_PAUSE = update(jobs).where(_KEY, jobs.c.not_before_ms.is_not(None)).values(not_before_ms=None)
_FORGET = delete(jobs).where(
    _KEY,
    jobs.c.state == "running",
    jobs.c.claim_token == bindparam("b_token"),
    jobs.c.generation == 0,
    jobs.c.attempts == 0,
)
_MARK_SETTLED = (
    update(jobs)
    .where(_KEY, jobs.c.state == "done", jobs.c.generation == bindparam("b_generation"), jobs.c.settled_ms.is_(None))
    .values(settled_ms=NowMs())
)
_READ_OUTCOME = select(*OUTCOME).where(_KEY)
_LOCK_OUTCOME = _READ_OUTCOME.with_for_update()
_READ_STATE = select(jobs.c.state).where(_KEY, or_(jobs.c.state != "done", jobs.c.expires_ms > NowMs()))
_READ_LIVING_OUTCOME = _READ_OUTCOME.where(jobs.c.state == "done", jobs.c.expires_ms > NowMs())
_JOB_KEY = (jobs.c.namespace, jobs.c.tenant, jobs.c.job_key)
_SWEEP = delete(jobs).where(
    tuple_(*_JOB_KEY).in_(
        select(*_JOB_KEY)
        .where(jobs.c.namespace == bindparam("b_namespace"), jobs.c.expires_ms <= NowMs())
        .limit(SWEEP_BATCH)
        # A batch locks its rows in their order, and a sweep does not: it waits for nobody.
        .with_for_update(skip_locked=True)
    )
)


def finish(connection: Connection, ticket: Ticket, *, namespace: str, token: str, ending: Ending) -> StoredOutcome:
    """Store how a job ended, unless it is done already, and return what is stored now.

    A success is stored under any token, and also where its row is gone: a run that cost nothing may have deleted it.
    An error counts only under the current token; where it is stale and nothing is stored, the outcome comes back as not
    stored and nothing changes.
    """
    outcome = ending.outcome
    values = _key(ticket, namespace=namespace) | _spent(ending.spent)
    values |= {
        "b_generation": ticket.generation,
        "b_body_hash": ticket.body_hash,
        "b_outcome": "success" if outcome.is_success else "error",
        "b_code": outcome.code,
        "b_reply": outcome.reply,
        "b_settlement": outcome.settlement,
        "b_ttl_ms": ending.ttl_ms,
    }
    if outcome.is_success:
        generation = connection.execute(_FINISH_SUCCESS[connection.dialect.name], values).scalar()
    else:
        generation = connection.execute(_FINISH_ERROR, values | {"b_token": token}).scalar()
    if generation is not None:
        return replace(outcome, generation=generation, is_settled=False)
    found = _outcome(connection.execute(_READ_OUTCOME, _key(ticket, namespace=namespace)).one_or_none())
    return found or replace(outcome, is_stored=False)


def release(connection: Connection, ticket: Ticket, *, tenure: Tenure, token: str, run: Run) -> None:
    """Let a job wait that this token still runs; anybody may claim it then, or after its pause."""
    values = _key(ticket, namespace=tenure.namespace) | _spent(run.spent)
    values |= {"b_token": token, "b_attempts": int(run.is_attempt), "b_row_age_ms": tenure.row_age_ms}
    connection.execute(_RELEASE, values | {"b_pause_ms": run.pause_ms})


def end_pause(connection: Connection, ticket: Ticket, *, namespace: str) -> None:
    """Let whoever comes next claim a job that waits for its time."""
    connection.execute(_END_PAUSE, _key(ticket, namespace=namespace))


def forget(connection: Connection, ticket: Ticket, *, namespace: str, token: str) -> None:
    """Delete the row of a refusal that cost nothing, unless it has a history."""
    connection.execute(_FORGET, _key(ticket, namespace=namespace) | {"b_token": token})


def mark_settled(connection: Connection, ticket: Ticket, *, namespace: str) -> None:
    """Note that the settlement stored for this generation was carried out; the first time counts."""
    connection.execute(_MARK_SETTLED, _key(ticket, namespace=namespace) | {"b_generation": ticket.generation})


def lock_outcome(connection: Connection, ticket: Ticket, *, namespace: str) -> StoredOutcome | None:
    """Keep others from finishing the job until the commit, and return how it ended if it did."""
    return _outcome(connection.execute(_LOCK_OUTCOME, _key(ticket, namespace=namespace)).one_or_none())


def read_living_outcome(connection: Connection, ticket: Ticket, *, namespace: str) -> StoredOutcome | None:
    """Return how a job ended, if it did and its lifetime has not passed."""
    return _outcome(connection.execute(_READ_LIVING_OUTCOME, _key(ticket, namespace=namespace)).one_or_none())


def read_state(connection: Connection, ticket: Ticket, *, namespace: str) -> str | None:
    """Return ``running``, ``waiting`` or ``done``; None for a job without a row, or past its lifetime."""
    state: str | None = connection.execute(_READ_STATE, _key(ticket, namespace=namespace)).scalar()
    return state


def sweep(connection: Connection, *, namespace: str) -> int:
    """Delete up to `SWEEP_BATCH` rows whose time has passed and return how many they were."""
    return connection.execute(_SWEEP, {"b_namespace": namespace}).rowcount


def to_outcome(row: Row[*tuple[Any, ...]]) -> StoredOutcome:
    """Read the outcome off the row of a job that is done.

    Raises:
        CorruptRowError: It has none.
    """
    if row.reply is None or row.settlement is None or row.outcome not in ("success", "error"):
        raise CorruptRowError(f"The row of a job that is done has no reply: outcome {row.outcome!r}")
    return StoredOutcome(
        is_success=row.outcome == "success",
        code=row.code,
        reply=row.reply,
        settlement=row.settlement,
        generation=row.generation,
        is_settled=row.settled_ms is not None,
        stored_ms=_stored_ms(row),
    )


def _stored_ms(row: Row[*tuple[Any, ...]]) -> int:
    """Return when an outcome was stored, or the nearest that is known of it.

    A worker that does not know the column leaves none, or that of an earlier outcome; then it is when the outcome was
    dead-lettered, else when the job was last claimed, which was earlier.
    """
    stored_ms, claimed_ms = row.stored_ms, row.claimed_ms
    if stored_ms is not None and stored_ms >= claimed_ms:
        return int(stored_ms)
    return int(claimed_ms if row.settled_ms is None else row.settled_ms)


def storable(text: str) -> str:
    """Replace the one character that PostgreSQL cannot store; a job must not look like a store that is down."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _outcome(row: Row[*tuple[Any, ...]] | None) -> StoredOutcome | None:
    return to_outcome(row) if row is not None and row.state == "done" else None


def _key(ticket: Ticket, *, namespace: str) -> dict[str, Any]:
    return {"b_namespace": namespace, "b_tenant": ticket.tenant, "b_job_key": storable(ticket.job_key)}


def _spent(spent: Spent) -> dict[str, Any]:
    unpriced = spent.lm_calls if spent.cost_usd is None else 0
    return {"b_lm_calls": spent.lm_calls, "b_unpriced": unpriced, "b_cost_usd": spent.cost_usd}
