"""The claim: one statement that finds out whose a job is, and takes it where it is free.

Its update always happens and its ``CASE`` expressions decide what it changes, because PostgreSQL returns no row for an
update that a ``WHERE`` held back. An owner is alive if its heartbeat is younger than the lease. On PostgreSQL the
statement sees the job's row as it is once the lock on it is free, but ``workers`` as it was when the statement began: a
worker that started and claimed the row in between would look dead. Therefore an owner whose claim is not older than this
statement is alive as well.

See Also:
    worker.store.inbox: the states of a row and what moves it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    literal_column,
    not_,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from worker.store.cancellations import IS_MARKED
from worker.store.flags import READ as READ_FLAGS
from worker.store.inbox import IS_GIVEN_UP, OUTCOME, Tenure, storable, to_outcome
from worker.store.programs import read_program
from worker.store.records import Claim, CorruptRowError, ProgramRecord, Ticket, Verdict
from worker.store.schema import NowMs, cancellations, jobs, workers

_NEW_ROW: dict[str, Any] = {
    "namespace": bindparam("namespace"),
    "tenant": bindparam("tenant"),
    "job_key": bindparam("job_key"),
    "generation": bindparam("generation"),
    "body_hash": bindparam("body_hash"),
    "state": "running",
    "owner": bindparam("owner"),
    "claim_token": bindparam("token"),
    "claimed_ms": NowMs(),
    "attempts": 0,
    "crashes": 0,
    "stops": 0,
    "stop_noted_ms": case((bindparam("is_stopping", type_=Boolean), NowMs()), else_=null()),
    "lm_calls": 0,
    "unpriced_lm_calls": 0,
    "first_seen_ms": NowMs(),
    "expires_ms": NowMs() + bindparam("row_age_ms", type_=BigInteger),
}
_CLAIMED = (
    *OUTCOME,
    jobs.c.body_hash,
    jobs.c.owner,
    jobs.c.claim_token,
    jobs.c.not_before_ms,
    jobs.c.attempts,
    jobs.c.crashes,
    jobs.c.stops,
    jobs.c.lm_calls,
    jobs.c.unpriced_lm_calls,
    jobs.c.cost_usd,
    jobs.c.first_seen_ms,
    NowMs().label("now_ms"),
)


def _is_owner_alive(now: ColumnElement[int]) -> ColumnElement[bool]:
    """True if the row's owner has beaten its heart within the lease, or claimed it just now.

    The outer columns are written literally because SQLAlchemy cannot correlate into an ON CONFLICT clause.
    """
    beats = exists().where(
        workers.c.namespace == literal_column("jobs.namespace"),
        workers.c.worker_id == literal_column("jobs.owner"),
        workers.c.seen_ms > now - bindparam("lease_ms", type_=BigInteger),
    )
    is_claimed_since = jobs.c.claimed_ms >= now
    is_orphan = jobs.c.claim_token == bindparam("orphan")
    return and_(or_(beats, is_claimed_since), ~is_orphan)


def _make_claim(insert: Any) -> Any:
    """Build the claim with one dialect's ``insert``; both dialects spell it alike."""
    statement = insert(jobs).values(_NEW_ROW)
    new = statement.excluded
    is_rerun = bindparam("is_rerun", type_=Boolean)
    is_of_last = and_(is_rerun, new.generation == jobs.c.generation + 1)
    is_higher = and_(not_(is_rerun), new.generation > jobs.c.generation)
    is_same = and_(or_(new.generation == jobs.c.generation, is_of_last), new.body_hash == jobs.c.body_hash)
    is_failed = and_(jobs.c.state == "done", jobs.c.outcome == "error")
    is_again = and_(is_of_last, is_same, is_failed)
    is_taken = or_(and_(or_(is_higher, is_same), _is_idle(is_higher)), and_(is_higher, is_failed), is_again)
    return statement.on_conflict_do_update(
        index_elements=[jobs.c.namespace, jobs.c.tenant, jobs.c.job_key],
        set_=_changes(new, is_taken=is_taken, is_higher=is_higher, is_again=is_again),
    ).returning(*_CLAIMED)


def _is_idle(is_higher: ColumnElement[bool]) -> ColumnElement[bool]:
    """True if nobody runs the job and it has not ended, or ended only because nobody waited for it any more.

    A job that waits for its next try is idle before its time for a higher generation only, which begins anew.
    """
    now = literal_column("excluded.claimed_ms", BigInteger)
    is_in_time = or_(jobs.c.not_before_ms.is_(None), jobs.c.not_before_ms <= now, is_higher)
    return or_(
        and_(jobs.c.state == "waiting", is_in_time),
        and_(jobs.c.state == "running", ~_is_owner_alive(now)),
        IS_GIVEN_UP,
    )


def _changes(
    new: Any, *, is_taken: ColumnElement[bool], is_higher: ColumnElement[bool], is_again: ColumnElement[bool]
) -> dict[str, Any]:
    """Return column → its value after the claim, which is the old one where the job is not taken.

    Args:
        new: The row that the claim would have inserted.
        is_taken: Whether the claim takes the job.
        is_higher: Whether it is of a higher generation: then the job begins anew.
        is_again: Whether it is the rerun of a job that ended with an error: it begins anew, and what it did cost counts on.
    """
    is_next = or_(is_higher, is_again)

    def taken(column: str, value: Any) -> ColumnElement[Any]:
        return case((is_taken, value), else_=jobs.c[column])

    def restarted(column: str, value: Any) -> ColumnElement[Any]:
        return case((and_(is_taken, is_next), value), else_=jobs.c[column])

    def added_up(column: str) -> ColumnElement[Any]:
        # Else the calls that dead workers took along would be forgotten with their counts.
        lost = (is_again, jobs.c[column] + jobs.c.crashes + jobs.c.stops)
        return case((and_(is_taken, is_higher), 0), lost, else_=jobs.c[column])

    changes: dict[str, Any] = {
        name: taken(name, new[name])
        for name in (
            "body_hash",
            "state",
            "owner",
            "claim_token",
            "claimed_ms",
            "stop_noted_ms",
            "expires_ms",
        )
    }
    emptied = ("not_before_ms", "outcome", "code", "reply", "settlement", "settled_ms", "stored_ms")
    changes |= {name: taken(name, null()) for name in emptied}
    changes |= {name: restarted(name, new[name]) for name in ("generation", "attempts", "first_seen_ms")}
    changes |= {name: added_up(name) for name in ("lm_calls", "unpriced_lm_calls")}
    changes["cost_usd"] = case((and_(is_taken, is_higher), null()), else_=jobs.c.cost_usd)
    return changes | _deaths(is_taken=is_taken, is_next=is_next)


def _deaths(*, is_taken: ColumnElement[bool], is_next: ColumnElement[bool]) -> dict[str, Any]:
    """Return the counts of workers that died with the job in hand: on their own, or after they were told to stop."""
    # A leftover of this living process killed nobody.
    is_takeover = and_(is_taken, jobs.c.state == "running", jobs.c.claim_token != bindparam("orphan"))
    was_stopped = and_(jobs.c.stop_noted_ms.is_not(None), jobs.c.stop_noted_ms >= jobs.c.claimed_ms)

    def counted(column: str, event: ColumnElement[bool]) -> ColumnElement[int]:
        begun_anew = (and_(is_taken, is_next), 0)
        return case(begun_anew, (and_(is_takeover, event), jobs.c[column] + 1), else_=jobs.c[column])

    return {"crashes": counted("crashes", not_(was_stopped)), "stops": counted("stops", was_stopped)}


# The flags, and a row without a name where the job has a cancel mark: one round trip for both.
_READ_ORDERS = union_all(
    READ_FLAGS,
    select(literal_column("''"), literal_column("''")).select_from(cancellations).where(*IS_MARKED),
)
_STATES = frozenset(("running", "waiting", "done"))
_NUMBERS = ("generation", "attempts", "crashes", "stops", "lm_calls", "unpriced_lm_calls", "first_seen_ms")
_CLAIM = {"sqlite": _make_claim(sqlite.insert), "postgresql": _make_claim(postgresql.insert)}


def claim(
    connection: Connection, ticket: Ticket, *, tenure: Tenure, token: str, living_tokens: Collection[str]
) -> Claim:
    """Claim a job, and read the program it names, the flags and its cancel mark in the same transaction.

    A row that this process owns under a token that it does not hold is the leftover of a claim whose answer never
    arrived (cancelled, or the connection broke at the commit). Nobody runs it, and its owner would look alive for ever:
    it is taken over like that of a dead owner.

    Args:
        connection: A connection in a write transaction.
        ticket: What to claim.
        tenure: On whose behalf.
        token: Names this claim; unique.
        living_tokens: The tokens of all claims that this process makes or holds now.

    Raises:
        CorruptRowError: The row cannot be read; it stays as it was.
    """
    row = _claim_row(connection, ticket, tenure=tenure, token=token)
    if _is_leftover(row, tenure=tenure, living_tokens=living_tokens):
        row = _claim_row(connection, ticket, tenure=tenure, token=token, orphan=row.claim_token)
    _check_row(row)
    verdict = _judge(row, ticket, tenure=tenure, token=token)
    orders = _read_orders(connection, ticket, namespace=tenure.namespace) if verdict is Verdict.MINE else {}
    program = _read_named_program(connection, ticket, namespace=tenure.namespace)
    return _to_claim(row, verdict=verdict, token=token, program=program, orders=orders)


def _to_claim(
    row: Row[*tuple[Any, ...]],
    *,
    verdict: Verdict,
    token: str,
    program: ProgramRecord | None,
    orders: dict[str, str],
) -> Claim:
    is_cancelled = orders.pop("", None) is not None
    return Claim(
        verdict=verdict,
        token=token if verdict is Verdict.MINE else "",
        attempts=row.attempts,
        crashes=row.crashes,
        stops=row.stops,
        generation=row.generation,
        lm_calls=row.lm_calls,
        cost_usd=row.cost_usd,
        first_seen_ms=row.first_seen_ms,
        stored=to_outcome(row) if verdict is Verdict.STORED else None,
        program=program,
        now_ms=row.now_ms,
        unpriced_lm_calls=row.unpriced_lm_calls,
        flags=orders,
        is_cancelled=is_cancelled,
    )


def _read_named_program(connection: Connection, ticket: Ticket, *, namespace: str) -> ProgramRecord | None:
    if ticket.program_id is None:
        return None
    return read_program(connection, ticket.program_id, namespace=namespace, tenant=ticket.tenant)


def _read_orders(connection: Connection, ticket: Ticket, *, namespace: str) -> dict[str, str]:
    values = {"b_namespace": namespace, "b_tenant": ticket.tenant, "b_job_key": storable(ticket.job_key)}
    return {name: value for name, value in connection.execute(_READ_ORDERS, values)}  # noqa: C416 - a Row is no pair


def _claim_row(
    connection: Connection, ticket: Ticket, *, tenure: Tenure, token: str, orphan: str = ""
) -> Row[*tuple[Any, ...]]:
    values = {
        "namespace": tenure.namespace,
        "tenant": ticket.tenant,
        "job_key": storable(ticket.job_key),
        "generation": ticket.generation,
        "body_hash": ticket.body_hash,
        "owner": tenure.owner,
        "token": token,
        "orphan": orphan,
        "lease_ms": tenure.lease_ms,
        "row_age_ms": tenure.row_age_ms,
        "is_stopping": tenure.is_stopping,
        "is_rerun": ticket.is_rerun,
    }
    return connection.execute(_CLAIM[connection.dialect.name], values).one()


def _is_leftover(row: Row[*tuple[Any, ...]], *, tenure: Tenure, living_tokens: Collection[str]) -> bool:
    return row.state == "running" and row.owner == tenure.owner and row.claim_token not in living_tokens


def _check_row(row: Row[*tuple[Any, ...]]) -> None:
    """Refuse a row in no state that there is: it could never be claimed, and its job would wait for ever."""
    numbers = (row._mapping[name] for name in _NUMBERS)
    has_numbers = all(isinstance(number, int) for number in numbers) and isinstance(row.not_before_ms, int | None)
    if row.state not in _STATES or not has_numbers:
        raise CorruptRowError(f"The row of a job cannot be read: state {row.state!r}")


def _judge(row: Row[*tuple[Any, ...]], ticket: Ticket, *, tenure: Tenure, token: str) -> Verdict:
    """Read the verdict off the row as the claim left it. The generation comes before the content.

    Where this process owns a running row, its token is a living one: else the row was a leftover and is mine now.
    """
    if row.claim_token == token:
        return Verdict.MINE
    ahead = ticket.generation - row.generation
    if ticket.is_rerun and ahead > 1:
        return Verdict.AHEAD
    is_same_generation = ahead == 0 or (ticket.is_rerun and ahead == 1)
    if is_same_generation and row.body_hash != ticket.body_hash:
        return Verdict.CONFLICT
    if row.state == "done":
        return Verdict.STORED
    is_here = is_same_generation and row.state == "running" and row.owner == tenure.owner
    return Verdict.HERE if is_here else Verdict.ELSEWHERE
