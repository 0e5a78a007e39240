"""The client: commands as methods."""

# ruff: noqa: ASYNC109 - a call's time-out is also the job's deadline, so it is an argument, not a block around it
# ruff: noqa: PLR0913 - an argument here is one of the wire's, and all but the first two are named

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast, overload

from worker.client.arguments import check_in_flight, create_args, execute_args, job_args, predict_args
from worker.client.kept import Kept, await_kept
from worker.client.many import Inputs, KeyedRows, Progress, RowResult, Rows, run_many
from worker.client.result import Result
from worker.client.session import Session, draft_of
from worker.message import CancelStatus, FallbackPolicy, ResultStatus

K = TypeVar("K")

Signature = Mapping[str, Any] | str


class Client(Session):
    """Talk to the workers of one namespace; one client carries thousands of calls at once.

    Every call has a time-out in seconds from the moment at which it is published, which goes along as the job's
    deadline, so that no worker starts a job whose caller has gone. While the broker is away a call waits to be published,
    as long as its time-out at most. Every job has a message id; give your own to make a call repeatable: the same id
    with the same content runs once.

    All methods but `enqueue` and `execute_many` raise `ReplyError` where a worker answers with an error,
    `NoWorkerError` where no worker consumes the queue, `ReplyTimeoutError` where no reply comes in time, and
    `ArgumentError` where an argument cannot be sent. All of them are a `ClientError`.

    Args:
        url: ``amqp://`` or ``amqps://`` URL of the broker.
        namespace: The workers' ``DSPEX_NAMESPACE``.
        timeout: Seconds that a call waits when it does not say.
        no_worker: What a call does when no worker consumes its queue. ``"fail"`` raises `NoWorkerError` at once;
            ``("wait", milliseconds)`` publishes the job and waits so much longer for its reply, so that workers that
            are started because of it have time to start. A queue that does not exist yet is waited for as long.
        ssl_context: For ``amqps://`` with a CA or a certificate of your own, e.g.
            ``ssl.create_default_context(cafile="ca.pem")``; the system's CAs by default.

    Raises:
        ArgumentError: ``no_worker`` is neither.
        ValueError: The URL says that the broker's certificate is not to be verified.

    See Also:
        docs/PYTHON.md: what it does, by example. docs/WIRE.md: commands, arguments and codes.
    """

    async def create_program(
        self,
        signature: Signature,
        *,
        id: str | None = None,  # noqa: A002 - the argument's name on the wire
        program_type: str | None = None,
        use_dynamic_signature: bool | None = None,
        fallback: FallbackPolicy = "never",
        lm: str | None = None,
        config: Mapping[str, Any] | None = None,
        demos: Sequence[Mapping[str, Any]] | None = None,
        replace: bool = False,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Define a program and return the reply's ``result``; what is None takes the workers' default.

        Args:
            signature: A definition (an object with ``inputs`` and ``outputs``) or a string signature.
            id: The program's name; without one the same definition is the same program.
            program_type: ``predict`` or ``chain_of_thought``.
            use_dynamic_signature: False for a question-and-answer program whatever is declared.
            fallback: What becomes of a definition that is refused. ``never`` unless given: who declares ``sentiment``
                must not get ``answer`` without a word.
            lm: Alias of the LM.
            config: ``temperature``, ``max_tokens``.
            demos: Examples, each a mapping of field → value.
            replace: Whether a program of another definition under this id is replaced.
            timeout: Seconds to wait.

        Raises:
            ReplyError: The definition was refused, e.g. ``unknown_type`` or ``program_exists``.
        """
        given = {
            "fallback": fallback,
            "id": id,
            "program_type": program_type,
            "use_dynamic_signature": use_dynamic_signature,
            "lm": lm,
            "config": config,
            "demos": demos,
            "replace": replace or None,
        }
        return await self.call("create_program", create_args(signature, given), timeout=timeout)

    async def execute(
        self,
        program_id: str,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        rerun_of: int | None = None,
    ) -> Result:
        """Run a program on inputs.

        Args:
            program_id: As created.
            inputs: Input field → value.
            timeout: Seconds to wait.
            options: ``lm``, ``temperature``, ``max_tokens``, ``timeout_ms``, ``cache`` and others of the contract.
            message_id: Idempotency key; a fresh one by default.
            rerun_of: To run a job again that ended in an error: that error's ``generation``, with its ``message_id``.

        Raises:
            ReplyError: The job was refused or its run failed, e.g. ``invalid_inputs`` or ``output_invalid``.
        """
        args = execute_args(program_id, inputs, options)
        return (await self._run(args, timeout=timeout, message_id=message_id, rerun_of=rerun_of)).result()

    async def predict(
        self,
        signature: Signature,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        rerun_of: int | None = None,
    ) -> Result:
        """Run a signature on inputs in one message, without leaving a program behind.

        Arguments and errors are those of `execute`; ``fallback`` is ``never`` unless ``options`` say otherwise.
        """
        args = predict_args(signature, inputs, options)
        return (await self._run(args, timeout=timeout, message_id=message_id, rerun_of=rerun_of)).result()

    @overload
    def execute_many(  # type: ignore[overload-overlap]  # a mapping is an iterable too: the first that fits is meant
        self,
        program: Signature,
        rows: KeyedRows[K],
        *,
        max_in_flight: int = 32,
        on_progress: Progress | None = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[RowResult[K], None]: ...
    @overload
    def execute_many(
        self,
        program: Signature,
        rows: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        max_in_flight: int = 32,
        on_progress: Progress | None = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[RowResult[int], None]: ...
    def execute_many(
        self,
        program: Signature,
        rows: object,
        *,
        max_in_flight: int = 32,
        on_progress: Progress | None = None,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[RowResult[Any], None]:
        """Run a program on many rows; yield what becomes of each, in the order in which they end.

        Rows are taken one at a time, when there is room, so that they may come from an endless generator. Who is slow to
        fetch results slows down what is published. Each row has its own time-out from the moment at which it is
        published, and one that fails does not end the others. Leaving the loop stops waiting for rows under way; put the
        iterator into ``contextlib.aclosing`` to be sure of when.

        Args:
            program: A program's id, or a signature: a dict, or a string with ``->``.
            rows: A mapping of key → inputs; or an iterable, or asynchronous iterable, of inputs or of (key, inputs).
            max_in_flight: Rows at once. As many as all workers together run (``DSPEX_CONCURRENCY`` each) keeps them
                busy; with many more, rows spend their time-out in the queue.
            on_progress: Called with the number of rows done and of all rows, None where ``rows`` has no length.
            timeout: Seconds that a row waits for its reply.
            options: As in `execute`, for all rows.

        Raises:
            ArgumentError: ``program``, ``rows``, ``options`` or ``max_in_flight`` is none.
            ClientError: The client was closed.
        """
        job_args(program, {}, options)
        check_in_flight(max_in_flight)

        async def run(inputs: Any) -> Result:
            return (await self._run(job_args(program, inputs, options), timeout=timeout)).result()

        check, limit = self._link.check_open, max_in_flight
        return run_many(Rows(rows), run, check_open=check, max_in_flight=limit, on_progress=on_progress)

    async def enqueue(
        self,
        program: Signature,
        inputs: Inputs,
        *,
        options: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        rerun_of: int | None = None,
        reply_to: str | None = None,
        start_within: float | None = None,
    ) -> str:
        """Send a job without waiting for its reply, and return its message id for `await_result`.

        When it returns, the broker has the job on disk and confirmed it.

        Args:
            program: A program's id, or a signature: a dict, or a string with ``->``.
            inputs: Input field → value.
            options: As in `execute`.
            message_id: Idempotency key; a fresh one by default.
            rerun_of: As in `execute`.
            reply_to: A durable queue of yours for the reply, ``<namespace>.reply.<name>``; the reply's
                ``correlation_id`` is the message id. Without one the result is only kept.
            start_within: Seconds within which the job must be started, or it ends as ``expired``; any time by default.

        Raises:
            NoWorkerError: No worker consumes the queue; the job was not sent.
            ReplyTimeoutError: The broker did not confirm it in time; sent again under its ``message_id`` it runs once.
        """
        draft = draft_of(
            "execute_program", job_args(program, inputs, options), message_id=message_id, rerun_of=rerun_of
        )
        return await self._sender.enqueue(draft, timeout=self.timeout, reply_to=reply_to, start_within=start_within)

    async def await_result(self, message_id: str, *, timeout: float | None = None) -> Result:
        """Ask for the kept result of a job until it is there, in growing pauses of at most 2 s.

        Args:
            message_id: The job's, as `enqueue` returned it.
            timeout: Seconds to wait in all. Workers that are away for a while are waited for too.

        Raises:
            ReplyError: The job ended in an error, or was cancelled (``cancelled``).
            ReplyTimeoutError: It has not ended in time; the sentence has its last status.
        """

        async def look(seconds: float) -> Kept:
            return await self._look(message_id, timeout=seconds)

        return await await_kept(look, message_id, seconds=self._seconds(timeout))

    async def get_result(self, message_id: str, *, timeout: float | None = None) -> Result | None:
        """Return the kept result of a job by its message id; None where it may still come, or nothing is known of it.

        `get_status` tells these cases apart.

        Raises:
            ReplyError: The job ended in an error, or was cancelled (``cancelled``).
        """
        return (await self._look(message_id, timeout=timeout)).result()

    async def get_status(self, message_id: str, *, timeout: float | None = None) -> ResultStatus:
        """Return how far a job is.

        Returns:
            ``done``: it ended, and `get_result` has its result or raises its error; ``running``; ``waiting`` for its
            next try; ``cancelled``; ``unknown``: it is still queued, was refused, is forgotten, or was never sent.
        """
        return (await self._look(message_id, timeout=timeout)).status

    async def cancel(self, message_id: str, *, timeout: float | None = None) -> CancelStatus:
        """Cancel a job by its message id, queued or running, and return what became of the wish.

        Returns:
            ``cancelled``; ``already_cancelled``; or ``too_late``: the job is done, and `get_result` has its reply.
        """
        answer = await self.call("cancel", {"message_id": message_id}, timeout=timeout)
        return cast("CancelStatus", str(answer["status"]))
