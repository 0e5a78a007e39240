"""What the log says of a job that did not simply succeed: names and figures, never a payload or a provider's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

MAX_NAME_CHARACTERS = 255
"""A sender's names are cut to this in the log; no AMQP id is longer."""

# A console obeys them, and the sender chooses the text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job's program, LM and costs.

    Attributes:
        program: Program id, as the job names it; None for a definition that comes with the job.
        version: The program's version, or None where it was not read.
        lm: LM alias, or None where it was not decided yet and the job names none.
        attempts: Runs that reached the LM, over all deliveries.
        cost_usd: Cost of all deliveries in US dollars; None, never 0, where a price is unknown.
        code: The error's code, where the outcome's own says only what becomes of the job.
    """

    program: str | None = None
    version: int | None = None
    lm: str | None = None
    attempts: int = 0
    cost_usd: float | None = None
    code: str | None = None

    @classmethod
    def of_args(cls, args: object, *, attempts: int = 0, code: str | None = None) -> Self:
        """Return what a job's arguments tell; total, for they may be of any shape."""
        named = args if isinstance(args, Mapping) else {}
        options = named.get("options")
        lm = options.get("lm") if isinstance(options, Mapping) else None
        return cls(
            program=printable(named.get("program_id") or named.get("id")),
            lm=printable(lm or named.get("lm")),
            attempts=attempts,
            code=code,
        )


def printable(name: object) -> str | None:
    r"""Return a sender's name for the log: cut, and control characters as ``\x1b``; None for what is no text."""
    if not isinstance(name, str):
        return None
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name[:MAX_NAME_CHARACTERS])
