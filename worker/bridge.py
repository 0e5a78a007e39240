"""Commands of DSPex's own bridge that have little to do on a queue: sessions, shutdown, the LM's configuration.

The bridge was one Python process behind a port, with an LM of the caller's choice and state of its own. Here the
operator configures LMs, nothing is kept for a session, and no message stops a worker. What is asked for is answered in
the bridge's shapes all the same, or refused with what to do instead.

See Also:
    docs/WIRE.md, "The other commands": arguments and results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from worker.errors import NotPermittedError, WorkerError
from worker.message import Delivery, Job, parse
from worker.settings import LMProfile, Settings

CONFIGURE_LM = "configure_lm"

_SESSIONS = {
    "cleanup_session": ("not_applicable", "Workers hold nothing for a session, so there is nothing to clean up"),
    "get_session_data": ("not_stored_locally", "Workers hold nothing for a session: keep its data where the caller is"),
    "update_session_data": ("acknowledged", "Workers hold nothing for a session, and nothing was stored"),
}
_SHUTDOWN = (
    "No message stops a worker: send SIGTERM to its process, or scale its deployment down; it finishes what runs"
)


class Bridge:
    """Answers in the bridge's place; changes nothing.

    Args:
        settings: The LM aliases.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.answers: dict[str, Callable[[Job], Awaitable[dict[str, Any]]]] = {
            CONFIGURE_LM: self.configure_lm,
            **dict.fromkeys(_SESSIONS, self.answer_session),
            "shutdown": self.shutdown,
        }

    async def answer_session(self, job: Job) -> dict[str, Any]:
        """Say what becomes of a session's data here: nothing."""
        status, message = _SESSIONS[job.command]
        return {"status": status, "session_id": job.args.get("session_id"), "message": message}

    async def configure_lm(self, job: Job) -> dict[str, Any]:
        """Confirm an LM that the operator configured, and refuse all others.

        A key in the arguments goes nowhere: it is not read, and `may_hold_a_key` keeps it out of the dead letters.

        Raises:
            NotPermittedError: ``model`` names no alias.
        """
        aliases = self._settings.profiles
        alias = job.args.get("model")
        if not isinstance(alias, str) or alias not in aliases:
            raise NotPermittedError(
                f"LMs are the operator's to configure; this worker knows {', '.join(sorted(aliases))}"
            )
        return {"status": "configured", "model": alias, **_shown(aliases[alias])}

    async def shutdown(self, job: Job) -> dict[str, Any]:
        """Refuse, and say how it is done.

        Raises:
            NotPermittedError: Always.
        """
        raise NotPermittedError(_SHUTDOWN)


def may_hold_a_key(delivery: Delivery, document: object) -> bool:
    """Tell whether a refused message may hold an LM's key, so that no copy of it may be kept.

    DSPex sends keys with ``configure_lm`` only. A body that cannot be parsed is judged by its bytes.

    Args:
        delivery: The message.
        document: Its parsed body, or None where it was refused before.
    """
    if document is None:
        if CONFIGURE_LM.encode() not in delivery.body:
            return False
        try:
            document = parse(delivery.body, max_bytes=len(delivery.body))
        except WorkerError:
            return True
    return isinstance(document, Mapping) and document.get("command") == CONFIGURE_LM


def _shown(profile: LMProfile) -> dict[str, Any]:
    provider, separator, _ = profile.model.partition("/")
    return {"provider": provider if separator else None, "temperature": profile.temperature}
