"""Send requests: find the way, look for a worker, keep the time."""

# ruff: noqa: ASYNC109 - a call's time-out is also the job's deadline, so it is an argument, not a block around it

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

from worker.client.arguments import check_rerun
from worker.client.errors import ReplyTimeoutError
from worker.client.link import Call, Link
from worker.client.presence import Presence
from worker.client.request import Request, Route, fresh_id
from worker.client.result import Reply
from worker.message import LANES

_LANES = {
    "create_program": "create",
    "create_gemini_program": "create",
    "execute_program": "execute",
    "execute_gemini_program": "execute",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be sent, checked.

    Attributes:
        command: For the queue that fits, and for sentences.
        body: The request's JSON.
        queue: A lane or a queue's full name; None for the one that fits.
        given_id: Idempotency key; None for a fresh one.
        rerun_of: Generation of the failed run that another one is asked of, or None.

    Raises:
        ArgumentError: ``rerun_of`` is no generation, or names no job.
    """

    command: str
    body: bytes
    queue: str | None = None
    given_id: str | None = None
    rerun_of: int | None = None
    message_id: str = field(init=False)

    def __post_init__(self) -> None:
        check_rerun(self.rerun_of, self.given_id)
        object.__setattr__(self, "message_id", self.given_id or fresh_id())


class Sender:
    """Send requests to the workers of one namespace.

    The time-out of a call runs from the moment at which its request is published, as the job's deadline does; waiting
    for the connection before that may take as long at most.

    Args:
        namespace: The workers'.
        link: The connection.
        presence: Looks for workers.
    """

    def __init__(self, namespace: str, *, link: Link, presence: Presence) -> None:
        self._namespace = namespace
        self._link = link
        self._presence = presence

    async def ask(self, draft: Draft, *, timeout: float) -> Reply:
        """Send a request and return its reply.

        Raises:
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: No reply in time.
            ClientError: The broker refused the request, or the reply is unreadable.
        """
        route = self._route(draft)
        bound_seconds = timeout + await self._look(route, draft, timeout)
        request = Request(draft.body, draft.message_id, uuid.uuid4().hex, bound_seconds, rerun_of=draft.rerun_of)
        with self._link.calling(route, request) as call:
            await self._published(call, draft, timeout)
            try:
                async with asyncio.timeout_at(call.until):
                    answer, headers = await call.reply
            except TimeoutError:
                told = f"No reply to {draft.command} from {route.queue} within {bound_seconds:g} s"
                raise ReplyTimeoutError(told, message_id=draft.message_id) from None
        return Reply.read(answer, headers, message_id=draft.message_id)

    async def enqueue(self, draft: Draft, *, timeout: float, reply_to: str | None, start_within: float | None) -> str:
        """Send a job whose reply nobody waits for here; return its message id once the broker has confirmed it.

        Args:
            draft: What is sent.
            timeout: Seconds to wait for the broker.
            reply_to: Queue for the reply; None where the result is only kept.
            start_within: Seconds within which it must be started; None for any time.

        Raises:
            NoWorkerError: Nobody consumes the queue.
            ReplyTimeoutError: The broker did not confirm it in time.
            ClientError: The broker refused it.
        """
        route = self._route(draft)
        waiting = await self._look(route, draft, timeout)
        bound_seconds = None if start_within is None else start_within + waiting
        request = Request(draft.body, draft.message_id, draft.message_id, bound_seconds, reply_to, draft.rerun_of)
        with self._link.calling(route, request) as call:
            await self._published(call, draft, timeout)
            try:
                async with asyncio.timeout(timeout):
                    await call.reply
            except TimeoutError:
                told = f"The broker did not confirm the job {draft.message_id} within {timeout:g} s"
                raise ReplyTimeoutError(told, message_id=draft.message_id) from None
        return draft.message_id

    async def _look(self, route: Route, draft: Draft, timeout: float) -> float:
        """Look for workers; return by how many seconds the job's bound grows."""
        try:
            async with asyncio.timeout(timeout + (self._presence.wait_seconds or 0.0)):
                return await self._presence.look(route.queue)
        except TimeoutError:
            raise _unsent(route, draft, timeout) from None

    async def _published(self, call: Call, draft: Draft, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await call.sent.wait()
        except TimeoutError:
            raise _unsent(call.route, draft, timeout) from None

    def _route(self, draft: Draft) -> Route:
        """Go through the namespace's exchange where it leads: a publisher may have no right to the default one."""
        name = draft.queue or _LANES.get(draft.command, "control")
        queue = f"{self._namespace}.{name}" if name in LANES else name
        lane = queue.removeprefix(f"{self._namespace}.")
        is_ours = lane in LANES and lane != queue
        return Route(queue, self._namespace, lane) if is_ours else Route(queue, "", queue)


def _unsent(route: Route, draft: Draft, timeout: float) -> ReplyTimeoutError:
    told = f"{draft.command} was not sent to {route.queue}: there was no connection to the broker for {timeout:g} s"
    return ReplyTimeoutError(told, message_id=draft.message_id)
