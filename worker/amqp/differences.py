"""Read what RabbitMQ says about a queue or an exchange that is not as it was declared (406)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<kind>\w+) '(?P<name>[^']*)'.*?: "
    r"received (?P<want>none|the value '[^']*'|'[^']*').*? but current is "
    r"(?P<have>none|the value '[^']*'|'[^']*')(?: of type '(?P<type>\w+)')?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One argument that differs; RabbitMQ names one at a time.

    Attributes:
        kind: ``queue`` or ``exchange``.
        name: Its name.
        argument: For example ``x-delivery-limit``, or ``durable``.
        have: What the broker has, as text, or ``none``.
        want: What was declared, as text, or ``none``.
        is_text: Whether the broker's value is text; else it is a number, a truth value, or none.
    """

    kind: str
    name: str
    argument: str
    have: str
    want: str
    is_text: bool


def read_difference(reply_text: str) -> Difference | None:
    """Read the text of a 406, or return None where it is about something else."""
    found = _DIFFERENCE.search(reply_text)
    if found is None:
        return None
    return Difference(
        kind=found["kind"],
        name=found["name"],
        argument=found["argument"],
        have=_value(found["have"]),
        want=_value(found["want"]),
        is_text=found["type"] == "longstr",
    )


def _value(text: str) -> str:
    return text.removeprefix("the value ").strip("'")
