"""Which messages may have killed their worker, told by how often the broker has delivered them.

A job with an id has a row, which counts its crashes and no lost connections; for it, deliveries tell only of a body that
kills before there is a claim. A job without an id has nothing else to be told by.

============================= =========== ==================================================================
Earlier deliveries            without id  what is done with the message
============================= =========== ==================================================================
0 to 4                        0 to 1      handed in beside others
5 to 24                       2 to 4      a suspect: handed in with nothing else in hand
25 and more                   5 and more  ended with ``worker_lost``, without being handed in
============================= =========== ==================================================================

A job with an id gets that many turns because somebody may go on killing workers for reasons of their own, and its row ends
it after three crashes if it is the killer and was claimed. A stop of its worker by the platform may cost two deliveries: the
job was killed with the worker, or went back before it was begun. So with more than ten ``DSPEX_MAX_STOPS`` it gets two
turns for each, and its row ends it first.

A suspect that makes room for another one takes a hop on the delay ladder. The broker counts the copy's deliveries from 0,
so the copy carries the earlier ones in its trail; else two killers in turns would never be found out.

See Also:
    docs/RELIABILITY.md, "Connections".
"""

from __future__ import annotations

from dataclasses import replace

from worker.amqp.clock import now_ms
from worker.errors import ReplyToNotAllowedError, WorkerLostError
from worker.facts import JobFacts
from worker.message import (
    Ack,
    DeadLetter,
    Delay,
    Delivery,
    Letter,
    Outcome,
    Reply,
    check_reply_to,
    encode_error,
    make_reply,
)
from worker.settings import Settings

SUSPECT_DELIVERIES = 5
SUSPECT_DELIVERIES_WITHOUT_ID = 2
RUNS_ALONE = 20
RUNS_ALONE_WITHOUT_ID = 3
_DELIVERIES_PER_STOP = 2

# DSPex sends an LM's key with this command; a body that nobody may parse is judged by its bytes.
_MAY_HOLD_A_KEY = b"configure_lm"


def is_suspect(delivery: Delivery) -> bool:
    """Tell whether a message was delivered so often that its body may be what kills.

    One that cannot be copied is refused before its body is looked at.
    """
    return _deliveries(delivery) >= _limit(delivery) and not delivery.is_oversized


def is_convicted(delivery: Delivery, *, max_stops: int) -> bool:
    """Tell whether a suspect has been handed in alone so often, and still was not settled.

    Args:
        delivery: The suspect's.
        max_stops: After how many stops of its worker the row of a job ends it.
    """
    turns = max(RUNS_ALONE, _DELIVERIES_PER_STOP * max_stops) if _has_row(delivery) else RUNS_ALONE_WITHOUT_ID
    return is_suspect(delivery) and _deliveries(delivery) >= _limit(delivery) + turns


def hop(delivery: Delivery, *, delay_ms: int) -> Delay:
    """Return a suspect's wait on the ladder, which is no attempt."""
    waited = delivery.trail.waited(first_ms=now_ms())
    return Delay(delay_ms, replace(waited, deliveries=_deliveries(delivery)))


def alone(delivery: Delivery) -> Delivery:
    """Return a delivery as it is handed in alone; if it ends in a copy, the copy is no suspect any more."""
    return replace(delivery, is_alone=True, trail=replace(delivery.trail, deliveries=0))


def sentence(delivery: Delivery, *, settings: Settings) -> Outcome:
    """End a job that has killed its worker each time, without looking into its body.

    So its reply has no ``id``, and no row is written. A body that may hold an LM's key leaves no dead letter.
    """
    error = WorkerLostError(f"its worker died before it ended, in each of {_deliveries(delivery)} deliveries")
    is_secret = _MAY_HOLD_A_KEY in delivery.body
    settlement = Ack() if is_secret else DeadLetter(Letter.of(error))
    return Outcome(_reply(delivery, error, settings=settings), settlement, code=error.code, facts=JobFacts())


def is_same_job(one: Delivery, other: Delivery) -> bool:
    """Tell whether two deliveries are of one job, as far as their properties tell; a job without an id is like no other."""
    if one.user_id != other.user_id or one.message_id != other.message_id:
        return False
    if one.message_id is not None:
        return True
    is_known = one.correlation_id is not None
    return is_known and _address(one) == _address(other) and one.body == other.body


def _address(delivery: Delivery) -> tuple[str | None, str | None]:
    return delivery.correlation_id, delivery.reply_to


def _reply(delivery: Delivery, error: WorkerLostError, *, settings: Settings) -> Reply | None:
    has_tenants = settings.tenancy == "user_id"
    tenant = (delivery.user_id or "") if has_tenants else ""
    try:
        check_reply_to(
            delivery.reply_to,
            namespace=settings.namespace,
            pattern=settings.effective_reply_to_pattern,
            tenant=tenant if has_tenants else None,
        )
    except ReplyToNotAllowedError:
        return None
    body = encode_error(None, error, now_ms=now_ms())
    return make_reply(
        delivery, body, job_key=delivery.message_id, namespace=settings.namespace, attempts=0, tenant=tenant
    )


def _deliveries(delivery: Delivery) -> int:
    return delivery.delivery_count + delivery.trail.deliveries


def _limit(delivery: Delivery) -> int:
    return SUSPECT_DELIVERIES if _has_row(delivery) else SUSPECT_DELIVERIES_WITHOUT_ID


def _has_row(delivery: Delivery) -> bool:
    return delivery.message_id is not None or delivery.correlation_id is not None
