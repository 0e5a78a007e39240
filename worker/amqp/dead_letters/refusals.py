"""Why a dead letter is not replayed.

==================== ======================================================================= =====================
code                 what it means                                                           ``force`` replays it
==================== ======================================================================= =====================
``not_copyable``     its headers are too large or not UTF-8                                  no
``untrusted_sender`` a user who is not trusted, or nobody by name, put it there              yes, as a fresh job
``too_many_replays`` it was replayed three times and failed each time                        yes
``replaces_program`` it replaces a program, perhaps with an older definition than today's    yes
a wire code          a worker would refuse it at once                                        yes
==================== ======================================================================= =====================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiormq.abc import DeliveredMessage

from worker.amqp.dead_letters.letters import DeadLetterView, is_foreign
from worker.amqp.incoming import is_copyable
from worker.errors import InvalidJSONError, WorkerError
from worker.message import as_object, parse

MAX_GENERATION = 3


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one dead letter stays.

    Attributes:
        message_id: Of the job, or None.
        correlation_id: Of the job, or None.
        program_id: Of the job, or None.
        code: See the table above.
        reason: A sentence.
    """

    message_id: str | None
    correlation_id: str | None
    program_id: str | None
    code: str
    reason: str

    @property
    def is_final(self) -> bool:
        """Whether no force helps."""
        return self.code == "not_copyable"


def refuse_for(letter: DeadLetterView, error: WorkerError) -> Refusal:
    """Return the refusal of a letter that a worker would refuse: the error's own code and sentence."""
    return _refuse(letter, error.code, str(error))


def object_to(message: DeliveredMessage, letter: DeadLetterView, *, trusted_users: Collection[str]) -> Refusal | None:
    """Return what speaks against a replay, whatever the job itself says; None where nothing does."""
    if not is_copyable(message.header.properties):
        return _refuse(letter, "not_copyable", "Its headers are too large or not UTF-8")
    if is_foreign(message, trusted_users=trusted_users):
        user = "somebody who does not say who he is" if letter.tenant is None else f"the broker user {letter.tenant!r}"
        told = f"It was put there by {user}: a worker's goes into DSPEX_TRUSTED_USERS"
        return _refuse(letter, "untrusted_sender", told)
    if letter.generation >= MAX_GENERATION:
        return _refuse(letter, "too_many_replays", f"It was replayed {letter.generation} times and failed each time")
    if _replaces_program(message.body):
        return _refuse(letter, "replaces_program", "It would give a program another definition (`replace`)")
    return None


def _refuse(letter: DeadLetterView, code: str, reason: str) -> Refusal:
    return Refusal(letter.message_id, letter.correlation_id, letter.program_id, code, reason)


def _replaces_program(body: bytes) -> bool:
    try:
        document = parse(body, max_bytes=len(body))
    except InvalidJSONError:
        return False
    args: Any = as_object(document.get("args")) if isinstance(document, Mapping) else None
    return isinstance(args, Mapping) and args.get("replace") is True
