"""One line of the log for each job that did not simply succeed, when its message is settled.

=================== ========= ============================================================================
event               level     when
=================== ========= ============================================================================
`job.failed`        info      refused, expired, cancelled or failed; the caller was told, nothing is kept
`job.dead_lettered` warning   an operator has to look at it: its message lies in a dead-letter queue
`job.delayed`       info      it waits on the delay ladder; debug where it has waited before and did not run
=================== ========= ============================================================================

They are written where all outcomes pass, after the settlement is known: only then is it certain whether a refusal that
nobody heard of has become a dead letter. A job that succeeds costs one comparison.

See Also:
    docs/METRICS.md, "Log events".
"""

from __future__ import annotations

import structlog

from worker.facts import JobFacts, printable
from worker.message import Ack, DeadLetter, Delay, Delivery, Outcome, Reject, Settlement

JOB_FIELDS = (
    "message_id",
    "correlation_id",
    "tenant",
    "program",
    "version",
    "lm",
    "code",
    "attempts",
    "cost_usd",
)
"""What each of the lines says."""

_log = structlog.get_logger(__name__)


def log_end(delivery: Delivery, outcome: Outcome, settlement: Settlement, *, has_tenants: bool) -> None:
    """Write the line of a job whose message was just settled, if there is something to tell.

    Args:
        delivery: The message; its ids are the sender's, and are cut.
        outcome: How the job ended.
        settlement: What was done with the message.
        has_tenants: Whether the publishing user is the tenant.
    """
    facts = outcome.facts
    match settlement:
        case Ack() if facts is not None and outcome.code != "ok":
            _log.info("job.failed", **_fields(delivery, facts, facts.code or outcome.code, has_tenants=has_tenants))
        case DeadLetter(letter):
            told = facts or JobFacts(attempts=letter.attempts)
            _log.warning("job.dead_lettered", **_fields(delivery, told, letter.code, has_tenants=has_tenants))
        case Reject():
            told = facts or JobFacts()
            code = told.code or outcome.code
            _log.warning("job.dead_lettered", **_fields(delivery, told, code, has_tenants=has_tenants))
        case Delay():
            told = facts or JobFacts(attempts=settlement.trail.attempts)
            fields = _fields(delivery, told, told.code or outcome.code, has_tenants=has_tenants)
            if _has_waited_before(delivery, settlement):
                # A backlog behind an open circuit hops on and on; the first line of each job has told that.
                _log.debug("job.delayed", **fields)
            else:
                _log.info("job.delayed", **fields)


def _has_waited_before(delivery: Delivery, delay: Delay) -> bool:
    """Tell whether a delay is one more hop of a job that waits for something else than its own attempts."""
    return 0 < delivery.trail.waits < delay.trail.waits


def _fields(delivery: Delivery, facts: JobFacts, code: str, *, has_tenants: bool) -> dict[str, object]:
    values = (
        printable(delivery.message_id),
        printable(delivery.correlation_id),
        printable(delivery.user_id or "") if has_tenants else "",
        facts.program,
        facts.version,
        facts.lm,
        code,
        facts.attempts,
        facts.cost_usd,
    )
    return dict(zip(JOB_FIELDS, values, strict=True))
