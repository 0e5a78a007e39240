"""A session with the workers of one namespace: any command, sent and answered."""

# ruff: noqa: ASYNC109 - a call's time-out is also the job's deadline, so it is an argument, not a block around it

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from worker.client.arguments import encode
from worker.client.kept import Kept
from worker.client.link import Link
from worker.client.presence import NoWorker, Presence
from worker.client.result import Reply
from worker.client.sender import Draft, Sender


class Session:
    """The part of `Client` that knows no command by name; arguments are those of `Client`."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "dspex",
        timeout: float = 60.0,
        no_worker: NoWorker = "fail",
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.namespace = namespace
        self.timeout = timeout
        self._link = Link(url, name=f"{namespace} client", ssl_context=ssl_context)
        self._sender = Sender(namespace, link=self._link, presence=Presence(self._link, no_worker))

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

    async def call(
        self,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
        rerun_of: int | None = None,
    ) -> dict[str, Any]:
        """Send any command and return the reply's ``result``; arguments as in `ask`."""
        draft = draft_of(command, args or {}, queue=queue, message_id=message_id, rerun_of=rerun_of)
        return (await self._sender.ask(draft, timeout=self._seconds(timeout))).value()

    async def ask(
        self,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        timeout: float | None = None,
        message_id: str | None = None,
        rerun_of: int | None = None,
    ) -> dict[str, Any]:
        """Send any command and return the whole reply, be it a success or an error.

        Args:
            command: E.g. ``ping``.
            args: Argument → value.
            queue: A lane (``create``, ``execute``, ``control``) or a queue's full name; by default what fits.
            timeout: Seconds to wait for the reply.
            message_id: Idempotency key; a fresh one by default.
            rerun_of: As in `execute`.

        Raises:
            ClientError: The broker refused the request, or the reply is unreadable.
        """
        draft = draft_of(command, args or {}, queue=queue, message_id=message_id, rerun_of=rerun_of)
        return dict((await self._sender.ask(draft, timeout=self._seconds(timeout))).document)

    async def _run(self, args: Mapping[str, Any], *, timeout: float | None, **job: Any) -> Reply:
        return await self._sender.ask(draft_of("execute_program", args, **job), timeout=self._seconds(timeout))

    async def _look(self, message_id: str, *, timeout: float | None) -> Kept:
        return Kept.read(message_id, await self.call("get_result", {"message_id": message_id}, timeout=timeout))

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout


def draft_of(
    command: str,
    args: Mapping[str, Any],
    *,
    queue: str | None = None,
    message_id: str | None = None,
    rerun_of: int | None = None,
) -> Draft:
    """Return a request, checked and encoded.

    Raises:
        ArgumentError: It cannot be sent.
    """
    return Draft(command, encode(command, args), queue, message_id, rerun_of)
