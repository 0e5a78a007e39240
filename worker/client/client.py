"""The client: commands as methods."""

# ruff: noqa: ASYNC109 - a call's time-out is also the job's deadline, so it is an argument, not a block around it

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aio_pika

from worker.client.errors import NoWorkerError, ReplyTimeoutError
from worker.client.link import DIRECT_REPLY_TO, Link, Route
from worker.client.result import Result, check_reply, parse_reply
from worker.message import HEADER_DEADLINE, LANES, dump

_LANES = {
    "create_program": "create",
    "create_gemini_program": "create",
    "execute_program": "execute",
    "execute_gemini_program": "execute",
}
_CONSUMER_SEEN_SECONDS = 5.0


class Client:
    """Talk to the workers of one namespace; one client carries thousands of calls at once.

    Every call has a time-out in seconds, which goes along as the job's deadline, so that no worker starts what
    nobody waits for any more. Every job has a message id; give your own to make a call repeatable: the same id with
    the same content runs once.

    Args:
        url: ``amqp://`` or ``amqps://`` URL of the broker.
        namespace: The workers' ``DSPEX_NAMESPACE``.
        timeout: Seconds that a call waits when it does not say.
        requires_worker: Whether a call fails at once with `NoWorkerError` when nobody consumes its queue. Turn it
            off to queue jobs for workers that are still to come.
        ssl_context: For ``amqps://`` with a CA or a certificate of your own, e.g.
            ``ssl.create_default_context(cafile="ca.pem")``; the system's CAs by default.

    See Also:
        docs/WIRE.md: commands, arguments and codes.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "dspex",
        timeout: float = 60.0,
        requires_worker: bool = True,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.namespace = namespace
        self.timeout = timeout
        self._requires_worker = requires_worker
        self._link = Link(url, name=f"{namespace} client", ssl_context=ssl_context)
        self._asking = asyncio.Lock()
        self._seen: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConnectionError: The broker cannot be reached or refuses the login.
        """
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.close()

    async def create_program(
        self,
        signature: Any,
        *,
        id: str | None = None,  # noqa: A002 - the argument's name on the wire
        timeout: float | None = None,
        **args: Any,
    ) -> dict[str, Any]:
        """Define a program and return the reply's ``result``.

        Args:
            signature: A definition (an object with ``inputs`` and ``outputs``) or a string signature.
            id: The program's name; without one the same definition is the same program.
            timeout: Seconds to wait.
            **args: More arguments of ``create_program``, e.g. ``lm`` or ``config``. ``fallback`` is ``never`` unless
                given: who declares ``sentiment`` must not get ``answer`` without a word.

        Raises:
            ReplyError: The definition was refused, e.g. ``unknown_type`` or ``program_exists``.
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
        """
        named = {} if id is None else {"id": id}
        return await self.call(
            "create_program", {"signature": signature, "fallback": "never", **named, **args}, timeout=timeout
        )

    async def execute(
        self,
        program_id: str,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Result:
        """Run a program on inputs.

        Args:
            program_id: As created.
            inputs: Input field → value.
            timeout: Seconds to wait.
            options: ``lm``, ``temperature``, ``max_tokens``, ``timeout_ms``, ``cache`` and others of the contract.
            message_id: Idempotency key; a fresh one by default.

        Raises:
            ReplyError: The job was refused or its run failed, e.g. ``invalid_inputs`` or ``output_invalid``.
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
        """
        args = {"program_id": program_id, "inputs": dict(inputs), "options": dict(options or {})}
        return Result.of(await self.call("execute_program", args, timeout=timeout, message_id=message_id))

    async def predict(
        self,
        signature: Any,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        options: Mapping[str, Any] | None = None,
        message_id: str | None = None,
    ) -> Result:
        """Run a signature on inputs in one message, without leaving a program behind.

        Arguments and errors are those of `execute`; ``fallback`` is ``never`` unless ``options`` say otherwise.
        """
        given = dict(options or {})
        args = {
            "signature": signature,
            "inputs": dict(inputs),
            "fallback": given.get("fallback", "never"),
            "options": given,
        }
        return Result.of(await self.call("execute_program", args, timeout=timeout, message_id=message_id))

    async def cancel(self, message_id: str, *, timeout: float | None = None) -> str:
        """Cancel a job by its message id, queued or running, and return what became of the wish.

        Returns:
            ``cancelled``; ``already_cancelled``; or ``too_late``: the job is done, and `get_result` has its reply.

        Raises:
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
        """
        return str((await self.call("cancel", {"message_id": message_id}, timeout=timeout))["status"])

    async def get_result(self, message_id: str, *, timeout: float | None = None) -> Result | None:
        """Return the kept result of a job by its message id; None where none is kept, or not yet.

        Raises:
            ReplyError: The job ended in an error.
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
        """
        kept = (await self.call("get_result", {"message_id": message_id}, timeout=timeout))["reply"]
        return None if kept is None else Result.of(check_reply(kept))

    async def call(
        self,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> dict[str, Any]:
        """Send any command and return the reply's ``result``; arguments as in `ask`.

        Raises:
            ReplyError: A worker answered with an error.
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
        """
        return check_reply(await self.ask(command, args, queue=queue, timeout=timeout, message_id=message_id))

    async def ask(
        self,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
    ) -> dict[str, Any]:
        """Send any command and return the whole reply, be it a success or an error.

        Args:
            command: E.g. ``ping``.
            args: Argument → value.
            queue: A lane (``create``, ``execute``, ``control``) or a queue's full name; by default what fits.
            timeout: Seconds to wait, connecting again included.
            message_id: Idempotency key; a fresh one by default.

        Raises:
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
            ClientError: The broker refused the request, or the reply is unreadable.
        """
        seconds = self.timeout if timeout is None else timeout
        target = self._queue(command, queue)
        message = _message({"command": command, "args": dict(args or {})}, seconds=seconds, message_id=message_id)
        try:
            async with asyncio.timeout(seconds):
                await self._look_for_worker(target)
                return parse_reply(await self._link.request(self._route(target), message))
        except TimeoutError:
            told = f"No reply to {command} from {target} within {seconds:g} s"
            raise ReplyTimeoutError(told, message_id=str(message.message_id)) from None

    def _queue(self, command: str, queue: str | None) -> str:
        name = queue or _LANES.get(command, "control")
        return f"{self.namespace}.{name}" if name in LANES else name

    def _route(self, queue: str) -> Route:
        """Go through the namespace's exchange where it leads: a publisher may have no right to the default one."""
        lane = queue.removeprefix(f"{self.namespace}.")
        is_ours = lane in LANES and lane != queue
        return Route(queue, self.namespace, lane) if is_ours else Route(queue, "", queue)

    async def _look_for_worker(self, queue: str) -> None:
        """Fail if nobody consumes a queue; a consumer that was seen counts for five seconds."""
        if not self._requires_worker or self._was_seen(queue):
            return
        async with self._asking:
            if self._was_seen(queue):
                return
            try:
                consumers = await self._link.count_consumers(queue)
            except ConnectionError:
                return  # Unknown: the publish will tell.
            if consumers is None:
                raise NoWorkerError(f"There is no queue {queue}: has a worker run in this namespace?")
            if consumers == 0:
                raise NoWorkerError(f"No worker consumes {queue}")
            self._seen[queue] = time.monotonic()

    def _was_seen(self, queue: str) -> bool:
        return queue in self._seen and time.monotonic() - self._seen[queue] < _CONSUMER_SEEN_SECONDS


def _message(document: Mapping[str, Any], *, seconds: float, message_id: str | None) -> aio_pika.Message:
    return aio_pika.Message(
        dump(document),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message_id or str(uuid.uuid4()),
        correlation_id=uuid.uuid4().hex,
        reply_to=DIRECT_REPLY_TO,
        headers={HEADER_DEADLINE: round((time.time() + seconds) * 1_000)},
    )
