"""The story of one job: a delivery goes in, an outcome comes out.

decode → claim → run → store; then the consumer publishes the reply and settles. ``handle`` is total: every path ends
in an `Outcome`, so no message can be forgotten.

==================================================== ====================================== ======== ===============
What happened                                        Code                                   Reply    Settlement
==================================================== ====================================== ======== ===============
a result                                             ok                                     success  Ack
the body or its properties cannot be read            invalid_json body_too_large            error    AckIfReplied
                                                     invalid_request
wrong shape, unknown command, not allowed            invalid_request unknown_command        error    AckIfReplied
                                                     not_permitted dynamic_signatures_off
definition refused                                   invalid_signature invalid_field_name   error    AckIfReplied
                                                     unknown_type invalid_constraint
                                                     unsupported_program_type
inputs refused                                       invalid_inputs                         error    AckIfReplied
unknown program · another one under a known id       program_not_found program_exists       error    AckIfReplied
same message id, other content                       idempotency_conflict                   error    AckIfReplied
reply_to refused                                     reply_to_not_allowed                   none     DeadLetter
past its deadline, or cancelled                      expired cancelled                      error    Ack
nobody waits any more                                caller_gone                            none     Ack
LM trouble that may pass                             lm_rate_limited lm_timeout             none yet Delay
                                                     lm_unavailable lm_auth
the same, attempts, age or deadline used up          the same codes                         error    DeadLetter
LM trouble that stays                                lm_invalid_request lm_not_configured   error    DeadLetter
                                                     context_window_exceeded
outputs stay invalid, or fit into no reply           output_invalid                         error    DeadLetter
over its time, calls or cost                         timeout budget_exceeded                error    DeadLetter
killed its worker 3 times, or was stopped too often  worker_lost                            error    DeadLetter
a bug                                                internal                               error    DeadLetter
properties too large to copy                         invalid_request                        error    Reject
shutdown, connection lost                            –                                      none     Leave
it may have killed its worker, and is not alone      –                                      none yet Isolate
the store is down for long                           –                                      none     GiveBack
==================================================== ====================================== ======== ===============

A refused ``configure_lm`` is acked in every case: a dead letter would keep the key that DSPex puts into it.

See Also:
    docs/WIRE.md, "Settlement": the same table for publishers; a test keeps the two alike.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from worker.bridge import may_hold_a_key
from worker.commands import Commands
from worker.errors import (
    CallerGoneError,
    CancelledJobError,
    ExpiredError,
    InvalidRequestError,
    OutputInvalidError,
    RefusedError,
    ReplyToNotAllowedError,
    RunError,
    UnknownCommandError,
    WorkerError,
)
from worker.facts import JobFacts, printable
from worker.inbox import Inbox, report_bug
from worker.message import (
    HEADER_ATTEMPTS,
    Ack,
    AckIfReplied,
    DeadLetter,
    Delivery,
    GiveBack,
    Job,
    Letter,
    Outcome,
    Reject,
    Reply,
    Settlement,
    check_deadline,
    encode_error,
    encode_success,
    make_reply,
    request_id,
    set_deadline,
    too_large,
)
from worker.questions import Question, Questions, mend_of_size
from worker.reading import read_document, read_job, tenant_of
from worker.settings import Settings
from worker.store import StoreUnavailableError, briefly
from worker.telemetry import JOBS

# Codes of outcomes that are neither a result nor an error: the job is handed in again.
_UNDECIDED = frozenset({"delayed", "isolated", "store_down"})

log = structlog.get_logger()


class Handler:
    """Turns deliveries into outcomes.

    Args:
        settings: Limits of bodies and reply queues.
        inbox: Runs jobs once.
        commands: What changes or costs something.
        questions: What only reads.
        clock_ms: Unix milliseconds now.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        inbox: Inbox,
        commands: Commands,
        questions: Questions,
        clock_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._commands = commands
        self._questions = questions
        self._clock_ms = clock_ms
        self._tally = commands.tally

    async def handle(self, delivery: Delivery) -> Outcome:
        """Handle one delivery."""
        self._tally.in_flight += 1
        document: object = None
        key = delivery.message_id or None
        command = "unreadable"
        try:
            document = read_document(delivery, self._settings)
            job = set_deadline(read_job(document, delivery, self._settings), now_ms=self._clock_ms())
            key = job.key
            _log_replay(job)
            command = self._known(job.command)
            outcome = await self._answer(job)
        except WorkerError as error:
            outcome = self._refuse(delivery, error, document=document, key=key)
        except Exception as error:  # noqa: BLE001 - total: every path ends in an outcome
            outcome = self._refuse(delivery, report_bug(error, command=command), document=document, key=key)
        finally:
            self._tally.in_flight -= 1
        self._count(command, outcome)
        return outcome

    def _known(self, command: str) -> str:
        if command not in self._commands.once and command not in self._questions.answers:
            raise UnknownCommandError(command[:64])
        return command

    async def _answer(self, job: Job) -> Outcome:
        question = self._questions.answers.get(job.command)
        try:
            if question is None:
                return _sendable(job, await self._inbox.once(job, self._commands.once[job.command]))
            return await self._ask(job, question)
        except StoreUnavailableError as error:
            log.warning("job.given_back", reason=str(error))
            return Outcome(None, GiveBack(), code="store_down")

    async def _ask(self, job: Job, question: Question) -> Outcome:
        check_deadline(job, now_ms=self._clock_ms())
        answer = await briefly(lambda: question(job), hold_seconds=self._settings.store_hold_seconds)
        body = encode_success(job.id, answer, now_ms=self._clock_ms())
        problem = too_large(body)
        if problem is not None:
            raise InvalidRequestError(f"{job.command} cannot be answered: {problem}; {mend_of_size(job.command)}")
        return Outcome(self._reply(job.delivery, body, key=job.key), Ack())

    def _refuse(self, delivery: Delivery, error: WorkerError, *, document: object, key: str | None) -> Outcome:
        """End a job that was not run, or whose run had no row to end in."""
        facts = error.facts or _facts(document)
        is_secret = may_hold_a_key(delivery, document)
        settlement = Ack() if is_secret else _settlement(delivery, error)
        if isinstance(error, ReplyToNotAllowedError | CallerGoneError):
            return Outcome(None, settlement, code=error.code, facts=facts)
        body = encode_error(request_id(document), error, now_ms=self._clock_ms())
        reply = self._reply(delivery, body, key=key, attempts=error.attempts)
        return Outcome(reply, settlement, code=error.code, facts=facts)

    def _reply(self, delivery: Delivery, body: bytes, *, key: str | None, attempts: int = 0) -> Reply | None:
        return make_reply(
            delivery,
            body,
            job_key=key,
            namespace=self._settings.namespace,
            attempts=attempts,
            tenant=tenant_of(delivery, self._settings),
        )

    def _count(self, command: str, outcome: Outcome) -> None:
        self._tally.commands += 1
        if outcome.code != "ok" and outcome.code not in _UNDECIDED:
            self._tally.errors += 1
        JOBS.labels(command, outcome.code).inc()


def _log_replay(job: Job) -> None:
    """Log the first delivery of a job that an operator has replayed, with the code that it had failed with."""
    delivery, trail = job.delivery, job.delivery.trail
    if not trail.generation or trail.first_delivered_ms is not None or delivery.delivery_count:
        return
    facts = JobFacts.of_args(job.args)
    log.info(
        "job.replayed",
        message_id=printable(delivery.message_id),
        correlation_id=printable(delivery.correlation_id),
        tenant=printable(job.tenant),
        program=facts.program,
        lm=facts.lm,
        code=trail.history[-1].code if trail.history else None,
        generation=trail.generation,
    )


def _sendable(job: Job, outcome: Outcome) -> Outcome:
    """Return an outcome whose reply can be sent: a row that an older worker stored may hold one that cannot.

    Raises:
        OutputInvalidError, InvalidRequestError: It cannot, of a run or of another command; the row stays as it is.
    """
    problem = too_large(outcome.reply.body) if outcome.reply is not None else None
    if outcome.reply is None or problem is None:
        return outcome
    is_run = job.command in ("execute_program", "execute_gemini_program")
    kind: type[OutputInvalidError | InvalidRequestError] = OutputInvalidError if is_run else InvalidRequestError
    error = kind(f"the stored result cannot be sent: {problem}; send the job under another message_id and ask for less")
    error.attempts = outcome.reply.headers[HEADER_ATTEMPTS]
    raise error


def _facts(document: object) -> JobFacts:
    return JobFacts.of_args(document.get("args") if isinstance(document, dict) else None)


def _settlement(delivery: Delivery, error: WorkerError) -> Settlement:
    if delivery.is_oversized:
        return Reject()
    match error:
        case ExpiredError() | CancelledJobError() | CallerGoneError():
            return Ack()
        case ReplyToNotAllowedError() | RunError():
            return DeadLetter(Letter.of(error))
        case RefusedError():
            return AckIfReplied(Letter.of(error))
        case _:
            raise AssertionError(f"no settlement for {type(error).__name__}")
