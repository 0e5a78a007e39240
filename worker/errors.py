"""Every error a job can end in, as one tree.

::

    WorkerError
    ├─ RefusedError                  the job was wrong; it cost no LM call
    │  ├─ InvalidJSONError           invalid_json
    │  ├─ BodyTooLargeError          body_too_large
    │  ├─ InvalidRequestError        invalid_request
    │  ├─ UnknownCommandError        unknown_command
    │  ├─ NotPermittedError          not_permitted
    │  ├─ DynamicSignaturesOffError  dynamic_signatures_off
    │  ├─ DefinitionError            a signature or program definition
    │  │  ├─ InvalidSignatureError         invalid_signature
    │  │  ├─ InvalidFieldNameError         invalid_field_name
    │  │  ├─ UnknownTypeError              unknown_type
    │  │  ├─ InvalidConstraintError        invalid_constraint
    │  │  └─ UnsupportedProgramTypeError   unsupported_program_type
    │  ├─ InvalidInputsError         invalid_inputs
    │  ├─ ProgramNotFoundError       program_not_found
    │  ├─ ProgramExistsError         program_exists
    │  ├─ IdempotencyConflictError   idempotency_conflict
    │  └─ ReplyToNotAllowedError     reply_to_not_allowed
    ├─ ExpiredError                  expired
    ├─ CancelledJobError             cancelled
    ├─ CallerGoneError               caller_gone
    └─ RunError                      the job was right, and its run failed
       ├─ TransientLMError           may pass: delayed on the broker, then again
       │  ├─ LMRateLimitedError      lm_rate_limited
       │  ├─ LMTimeoutError          lm_timeout
       │  ├─ LMUnavailableError      lm_unavailable
       │  └─ LMAuthError             lm_auth
       ├─ LMInvalidRequestError      lm_invalid_request
       ├─ ContextWindowExceededError context_window_exceeded
       ├─ LMNotConfiguredError       lm_not_configured
       ├─ OutputInvalidError         output_invalid
       ├─ JobTimeoutError            timeout
       ├─ BudgetExceededError        budget_exceeded
       ├─ WorkerLostError            worker_lost
       └─ InternalError              internal

``str(error)`` is the reply's ``error`` string; DSPex matches on some of them, so the prefixes below are fixed.

See Also:
    docs/WIRE.md: the codes, the strings and what each one does to the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from worker.facts import JobFacts


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a job, and where.

    Attributes:
        path: JSON pointer into the job's ``args``, e.g. ``/inputs/text`` or ``/signature/inputs/0/type``.
        problem: What is wrong, as a short phrase: ``missing``, ``must be at most 1``.
    """

    path: str
    problem: str


def encodable(text: str) -> str:
    """Return a text with ``?`` for each character that UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()


class WorkerError(Exception):
    """The root of every error that ends a job.

    Attributes:
        code: The wire code, fixed for each class.
        recoverable: Whether the same job may succeed later without a change.
        prefix: What stands before the reason in ``str(error)``.
        reason: The sentence without the prefix.
        field: The signature field concerned, or None.
        problems: Every problem found, each with its place.
        retry_after_ms: When a retry makes sense, in milliseconds from now, or None.
        attempts: Runs that reached the LM, over all deliveries; set by the handler.
        facts: What the log says of the job, where its run had begun; set by the inbox.
    """

    code: ClassVar[str] = "internal"
    recoverable: ClassVar[bool] = False
    prefix: ClassVar[str] = ""

    def __init__(
        self,
        reason: str,
        *,
        field: str | None = None,
        problems: Sequence[Problem] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        # Sentences quote what was sent or answered; a lone surrogate in it must not cost anybody the answer.
        reason = encodable(reason)
        super().__init__(f"{self.prefix}{reason}")
        self.reason = reason
        self.field = None if field is None else encodable(field)
        self.problems = tuple(Problem(encodable(one.path), encodable(one.problem)) for one in problems)
        self.retry_after_ms = retry_after_ms
        self.attempts = 0
        self.facts: JobFacts | None = None


class RefusedError(WorkerError):
    """The job itself is wrong. No LM was called; the same job will be refused again."""


class InvalidJSONError(RefusedError):
    """The body is not the strict JSON that the contract asks for."""

    code = "invalid_json"


class BodyTooLargeError(RefusedError):
    """The body is larger than ``DSPEX_MAX_BODY_BYTES``."""

    code = "body_too_large"


class InvalidRequestError(RefusedError):
    """The body is JSON, but not a request; or its properties contradict it; or its answer would be too large."""

    code = "invalid_request"


class UnknownCommandError(RefusedError):
    """No such command."""

    code = "unknown_command"
    prefix = "Unknown command: "


class NotPermittedError(RefusedError):
    """The command exists, and this worker does not allow it."""

    code = "not_permitted"


class DynamicSignaturesOffError(RefusedError):
    """The sender insists on a declared signature while dynamic signatures are switched off."""

    code = "dynamic_signatures_off"


class DefinitionError(RefusedError):
    """A signature or program definition cannot be accepted.

    Attributes:
        breaks_limit: True for faults that no fallback policy turns into a question-and-answer program
            (not an object, too deep, too many fields, a constraint that this version does not enforce).
    """

    prefix = "Failed to create program: "

    def __init__(
        self,
        reason: str,
        *,
        field: str | None = None,
        problems: Sequence[Problem] = (),
        breaks_limit: bool = False,
    ) -> None:
        super().__init__(reason, field=field, problems=problems)
        self.breaks_limit = breaks_limit

    def again(self) -> Self:
        """Return a fresh error of the same content: a remembered one would hold on to the frames of each raise."""
        return type(self)(self.reason, field=self.field, problems=self.problems, breaks_limit=self.breaks_limit)


class InvalidSignatureError(DefinitionError):
    """The definition has the wrong shape, no fields, too many fields, is too large to be answered, or cannot be parsed."""

    code = "invalid_signature"


class InvalidFieldNameError(DefinitionError):
    """A field name is empty, too long, doubled, or holds a character that is not allowed."""

    code = "invalid_field_name"


class UnknownTypeError(DefinitionError):
    """A type is spelled in no known way; the reason names the nearest one."""

    code = "unknown_type"


class InvalidConstraintError(DefinitionError):
    """A constraint contradicts another one, its own type or the field's type."""

    code = "invalid_constraint"


class UnsupportedProgramTypeError(DefinitionError):
    """``program_type`` is none that the worker runs."""

    code = "unsupported_program_type"


class InvalidInputsError(RefusedError):
    """Inputs are missing or do not match what was declared."""

    code = "invalid_inputs"


class ProgramNotFoundError(RefusedError):
    """No program has this id."""

    code = "program_not_found"
    prefix = "Program not found: "


class ProgramExistsError(RefusedError):
    """The id belongs to a program with another definition."""

    code = "program_exists"

    def __init__(self, program_id: str) -> None:
        super().__init__(f"Program with ID '{program_id}' already exists")


class IdempotencyConflictError(RefusedError):
    """The same message id was used before with other content."""

    code = "idempotency_conflict"


class ReplyToNotAllowedError(RefusedError):
    """``reply_to`` names a queue that replies may not go to."""

    code = "reply_to_not_allowed"


class ExpiredError(WorkerError):
    """The caller's deadline passed before the job was started."""

    code = "expired"


class CancelledJobError(WorkerError):
    """The job was cancelled before it was done."""

    code = "cancelled"


class CallerGoneError(WorkerError):
    """Nobody waits for the job's reply any more, so it was not started; there is nobody to tell."""

    code = "caller_gone"


class RunError(WorkerError):
    """The job was accepted and its run failed."""

    prefix = "Program execution failed: "


class TransientLMError(RunError):
    """LM trouble that may pass: the job waits on the broker and runs again.

    Attributes:
        is_circuit_open: Whether the LM was taken for down when the job failed: then attempts do not end it.
        status: The HTTP status of the provider's answer, for the log; None where there was none.
    """

    recoverable = True
    is_circuit_open: bool = False
    status: int | None = None


class LMRateLimitedError(TransientLMError):
    """The provider asks to slow down; ``retry_after_ms`` is its own hint."""

    code = "lm_rate_limited"


class LMTimeoutError(TransientLMError):
    """The LM did not answer within ``DSPEX_LM_TIMEOUT_SECONDS``."""

    code = "lm_timeout"


class LMUnavailableError(TransientLMError):
    """No connection to the LM, a server error, or a model that its provider does not know."""

    code = "lm_unavailable"


class LMAuthError(TransientLMError):
    """The provider refuses the key or the account, or this worker has none. Recoverable: the job is fine."""

    code = "lm_auth"


class LMInvalidRequestError(RunError):
    """The provider refuses this very request, or holds its answer back."""

    code = "lm_invalid_request"


class ContextWindowExceededError(RunError):
    """The prompt is longer than the model takes."""

    code = "context_window_exceeded"


class LMNotConfiguredError(RunError):
    """No LM has this alias, or its configuration is incomplete."""

    code = "lm_not_configured"
    prefix = "No LM is loaded: "


class OutputInvalidError(RunError):
    """The LM's answer does not match what was declared, or is too large for a reply.

    Attributes:
        answer: The answer as the LM gave it, to be shown to it again; never sent to the caller.
    """

    code = "output_invalid"
    answer: str = ""


class JobTimeoutError(RunError):
    """The job ran longer than it may."""

    code = "timeout"


class BudgetExceededError(RunError):
    """The job would need more LM calls than it may make."""

    code = "budget_exceeded"


class WorkerLostError(RunError):
    """The job was running each time that its worker died: it is taken for the killer, or outlasted too many stops."""

    code = "worker_lost"


class InternalError(RunError):
    """A fault of the worker; the details are in its log only."""

    code = "internal"
