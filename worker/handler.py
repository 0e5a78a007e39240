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
LM trouble that may pass                             lm_rate_limited lm_timeout             none yet Delay
                                                     lm_unavailable lm_auth
the same, attempts, age or deadline used up          the same codes                         error    DeadLetter
LM trouble that stays                                lm_invalid_request lm_not_configured   error    DeadLetter
                                                     context_window_exceeded
outputs stay invalid                                 output_invalid                         error    DeadLetter
over its time, calls or cost                         timeout budget_exceeded                error    DeadLetter
a bug                                                internal                               error    DeadLetter
properties too large to copy                         invalid_request                        error    Reject
shutdown, connection lost                            –                                      none     Leave
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
    CancelledJobError,
    ExpiredError,
    InvalidRequestError,
    RefusedError,
    ReplyToNotAllowedError,
    RunError,
    UnknownCommandError,
    WorkerError,
)
from worker.inbox import Inbox, report_bug
from worker.message import (
    Ack,
    AckIfReplied,
    DeadLetter,
    Delivery,
    Job,
    Letter,
    Outcome,
    Reject,
    Settlement,
    check_deadline,
    check_properties,
    check_reply_to,
    decode,
    encode_error,
    encode_success,
    make_reply,
    parse,
    request_id,
)
from worker.questions import Questions
from worker.settings import Settings
from worker.store import steadily
from worker.telemetry import JOBS

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
            self._check_envelope(delivery)
            document = parse(delivery.body, max_bytes=self._settings.max_body_bytes)
            check_properties(delivery)
            job = decode(document, delivery)
            key = job.key
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

    def _check_envelope(self, delivery: Delivery) -> None:
        """Check where the reply may go first of all: whatever is refused after this is answered there."""
        check_reply_to(delivery.reply_to, namespace=self._settings.namespace, pattern=self._settings.reply_to_pattern)
        if delivery.is_oversized:
            raise InvalidRequestError("Properties and headers are larger than 64 KiB")

    def _known(self, command: str) -> str:
        if command not in self._commands.once and command not in self._questions.answers:
            raise UnknownCommandError(command[:64])
        return command

    async def _answer(self, job: Job) -> Outcome:
        question = self._questions.answers.get(job.command)
        if question is None:
            return await self._inbox.once(job, self._commands.once[job.command])
        check_deadline(job, now_ms=self._clock_ms())
        body = encode_success(job.id, await steadily(lambda: question(job)), now_ms=self._clock_ms())
        reply = make_reply(job.delivery, body, job_key=job.key, namespace=self._settings.namespace, attempts=0)
        return Outcome(reply, Ack())

    def _refuse(self, delivery: Delivery, error: WorkerError, *, document: object, key: str | None) -> Outcome:
        """End a job that was not run, or whose run had no row to end in."""
        is_secret = may_hold_a_key(delivery, document)
        letter = Letter.of(error)
        if isinstance(error, ReplyToNotAllowedError):
            settlement: Settlement = Reject() if delivery.is_oversized else DeadLetter(letter)
            return Outcome(None, Ack() if is_secret else settlement, code=error.code)
        body = encode_error(request_id(document), error, now_ms=self._clock_ms())
        reply = make_reply(
            delivery,
            body,
            job_key=key,
            namespace=self._settings.namespace,
            attempts=error.attempts,
        )
        settlement = Ack() if is_secret else _settlement(delivery, error, letter=letter)
        return Outcome(reply, settlement, code=error.code)

    def _count(self, command: str, outcome: Outcome) -> None:
        self._tally.commands += 1
        if outcome.code not in ("ok", "delayed"):
            self._tally.errors += 1
        JOBS.labels(command, outcome.code).inc()


def _settlement(delivery: Delivery, error: WorkerError, *, letter: Letter) -> Settlement:
    if delivery.is_oversized:
        return Reject()
    match error:
        case ExpiredError() | CancelledJobError():
            return Ack()
        case RefusedError():
            return AckIfReplied(letter)
        case RunError():
            return DeadLetter(letter)
        case _:
            raise AssertionError(f"no settlement for {type(error).__name__}")
