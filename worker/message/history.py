"""The earlier deaths of a job: how each run before a replay ended.

A letter's own headers tell only of its last failure. A replay adds that to the list, and every copy of the job carries
the list on, so that the first code is not lost when the job fails again with another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_DEATHS = 10
"""Deaths that a list names: the first one, and the newest others."""

# A worker's id may be longer; ten deaths stay below 4 KiB in all.
_MAX_TEXT_BYTES = 128


@dataclass(frozen=True, slots=True)
class Death:
    """How a job ended before it was replayed.

    Attributes:
        code: Wire code, or ``broker:<reason>``; None where nothing told.
        failed_ms: Unix milliseconds, or None.
        generation: How often the job had been replayed by then.
        worker: Which worker gave it up, or None.
    """

    code: str | None
    failed_ms: int | None
    generation: int
    worker: str | None


def remember(history: tuple[Death, ...], death: Death) -> tuple[Death, ...]:
    """Return a history with one more death; where it is full, the second oldest one makes room."""
    longer = (*history, death)
    return longer if len(longer) <= MAX_DEATHS else (longer[0], *longer[1 - MAX_DEATHS :])


def write_history(history: tuple[Death, ...]) -> list[dict[str, Any]]:
    """Write a history as a header: a table for each death, the oldest first; what is not known is left out."""
    return [_write(death) for death in history]


def read_history(value: object) -> tuple[Death, ...]:
    """Read a header as a history; total: what is no death is left out, and so is what goes beyond the bound."""
    if not isinstance(value, list):
        return ()
    deaths = [_read(entry) for entry in value[:MAX_DEATHS] if isinstance(entry, Mapping)]
    return tuple(deaths)


def _write(death: Death) -> dict[str, Any]:
    known = {
        "code": _cut(death.code),
        "time": death.failed_ms,
        "generation": death.generation,
        "worker": _cut(death.worker),
    }
    return {name: value for name, value in known.items() if value is not None}


def _read(entry: Mapping[str, Any]) -> Death:
    return Death(
        code=_text(entry.get("code")),
        failed_ms=_number(entry.get("time")),
        generation=_number(entry.get("generation")) or 0,
        worker=_text(entry.get("worker")),
    )


def _text(value: object) -> str | None:
    return _cut(value) if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cut(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace")[:_MAX_TEXT_BYTES].decode("utf-8", "ignore")
