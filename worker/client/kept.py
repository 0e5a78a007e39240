"""Results that workers keep: what ``get_result`` says of a job, and waiting until it says how the job ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from worker.client.errors import ClientError, NoWorkerError, ReplyError, ReplyTimeoutError
from worker.client.result import Reply, Result
from worker.message import RESULT_STATUSES, ResultStatus

_PAUSE_INITIAL_SECONDS = 0.1
_PAUSE_MAX_SECONDS = 2.0
# One look that is lost with its worker must not use up the whole time.
_LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a job.

    Attributes:
        message_id: The job's.
        status: How far it is.
        reply: Its reply, if it is done.
    """

    message_id: str
    status: ResultStatus
    reply: Reply | None

    @classmethod
    def read(cls, message_id: str, answer: Mapping[str, Any]) -> Kept:
        """Read the ``result`` of ``get_result``.

        Raises:
            ClientError: It has a status that this client does not know, or is ``done`` without a reply.
        """
        document, generation = answer.get("reply"), answer.get("generation")
        for status in RESULT_STATUSES:
            if status == answer.get("status"):
                break
        else:
            raise ClientError(f"The status {answer.get('status')!r} is of a newer worker: update the client")
        if status != "done":
            return cls(message_id, status, None)
        if not isinstance(document, dict) or not isinstance(document.get("success"), bool):
            raise ClientError("The job is done, and its reply is no object with `success`")
        return cls(message_id, status, Reply(document, message_id, generation, document.get("stored_ms")))

    def result(self) -> Result | None:
        """Return the result of a job that is done; None for one that may still end.

        Raises:
            ReplyError: It ended in an error, or was cancelled.
        """
        if self.status == "cancelled":
            _raise_cancelled(self.message_id)
        return None if self.reply is None else self.reply.result()


async def await_kept(look: Callable[[float], Awaitable[Kept]], message_id: str, *, seconds: float) -> Result:
    """Look again and again until a job has ended; pauses double up to 2 s, each with jitter.

    Workers that are away, or do not answer a look, are waited for too.

    Args:
        look: Asks the workers, within so many seconds.
        message_id: The job's.
        seconds: How long to wait.

    Raises:
        ReplyError: The job ended in an error, or was cancelled.
        ReplyTimeoutError: It has not ended in time.
    """
    loop = asyncio.get_running_loop()
    end, pause_seconds, seen = loop.time() + seconds, _PAUSE_INITIAL_SECONDS, "no worker has answered"
    while (left_seconds := end - loop.time()) > 0:
        try:
            # A client that waits for workers to come would give a look longer than there is time.
            async with asyncio.timeout_at(end):
                kept = await look(min(left_seconds, _LOOK_SECONDS))
        except (NoWorkerError, TimeoutError) as error:
            seen = str(error) or seen
        else:
            result = kept.result()
            if result is not None:
                return result
            seen = f"its status is {kept.status}"
        pause = random.uniform(pause_seconds / 2, pause_seconds)  # noqa: S311 - jitter, no secret
        await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
        pause_seconds = min(_PAUSE_MAX_SECONDS, pause_seconds * 2)
    raise ReplyTimeoutError(f"The job {message_id} has not ended within {seconds:g} s: {seen}", message_id=message_id)


def _raise_cancelled(message_id: str) -> NoReturn:
    told = "The job was cancelled"
    detail: dict[str, Any] = {
        "code": "cancelled",
        "message": told,
        "field": None,
        "recoverable": False,
        "retry_after": None,
    }
    document: dict[str, Any] = {"id": None, "success": False, "error": told, "error_detail": {**detail, "problems": []}}
    raise ReplyError(document, message_id=message_id)
