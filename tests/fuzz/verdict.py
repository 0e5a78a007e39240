"""What every outcome must be, whatever the body was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from tests.fuzz.cases import Case
from worker.errors import WorkerError
from worker.message import Outcome


def _codes(root: type[WorkerError]) -> Iterator[str]:
    yield root.code
    for child in root.__subclasses__():
        yield from _codes(child)


KNOWN_CODES = frozenset(_codes(WorkerError)) - {"internal"} | {"ok", "delayed"}


def fault_of(case: Case, outcome: Outcome) -> str | None:
    """Return what is wrong with an outcome, or None."""
    if outcome.code not in KNOWN_CODES:
        return f"the code is {outcome.code!r}"
    if outcome.reply is None:
        is_silent = (
            outcome.code == "delayed" or case.delivery().reply_to is None or outcome.code == "reply_to_not_allowed"
        )
        return None if is_silent else f"no reply to {outcome.code!r}"
    # Not by our own parser, which reads requests: a list of programs is deeper than the deepest of their definitions.
    reply = json.loads(outcome.reply.body, parse_constant=_refuse)
    if set(reply) != {"id", "success", "timestamp"} | ({"result"} if reply["success"] else {"error", "error_detail"}):
        return f"the reply has the keys {sorted(reply)}"
    return _fault_of_reply(reply, outcome.code)


def _fault_of_reply(reply: dict[str, Any], code: str) -> str | None:
    told = "ok" if reply["success"] else reply["error_detail"]["code"]
    if told != code:
        return f"the reply says {told!r}, the outcome {code!r}"
    if not reply["success"] and not (isinstance(reply["error"], str) and reply["error"]):
        return "the reply has no error text"
    return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
