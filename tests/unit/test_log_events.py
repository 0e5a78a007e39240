"""The table of log events is what the code logs: event, level and fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.pages import ROOT, quoted, table
from worker.amqp.job_lines import JOB_FIELDS

LEVELS = ("debug", "info", "warning", "error")
LOGGERS = {"log", "_log"}
# What `log_bug` adds to the fields that it is given.
BUG_FIELDS = {"error", "frames"}


@dataclass
class Event:
    """What the code says of an event, over all lines that log it."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted((ROOT / "worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def logged(call: ast.Call) -> tuple[ast.expr, str, set[str]] | None:
    """Return the event, the level and the fields of a call that logs, or None."""
    match call.func:
        case ast.Attribute(ast.Name(name), level) if name in LOGGERS and level in LEVELS:
            return call.args[0], level, {word.arg or "**" for word in call.keywords}
        case ast.Name("log_bug") | ast.Attribute(_, "log_bug"):
            [event] = [word.value for word in call.keywords if word.arg == "event"]
            return event, "error", BUG_FIELDS | {word.arg or "**" for word in call.keywords if word.arg != "event"}
    return None


def events() -> dict[str, Event]:
    found: dict[str, Event] = {}
    for path, call in calls():
        told = logged(call)
        if told is None or (path.name == "telemetry.py" and isinstance(told[0], ast.Name)):
            continue
        assert isinstance(told[0], ast.Constant), f"{path}:{call.lineno}: the event is no literal"
        event = found.setdefault(str(told[0].value), Event())
        event.levels.add(told[1])
        event.fields |= told[2]
    return found


def spread(event: str, fields: set[str]) -> set[str]:
    """Return the fields with those that the code passes on as a dictionary."""
    named = fields - {"**"}
    if "**" not in fields:
        return named
    return named | (set(JOB_FIELDS) if event.startswith("job.") else {"reason"})


def test_the_table_of_log_events_is_the_code() -> None:
    """No event, no level and no field more or less."""
    expected = [
        [f"`{name}`", ", ".join(level for level in LEVELS if level in event.levels), spread(name, event.fields)]
        for name, event in sorted(events().items())
    ]
    rows = table("docs/METRICS.md", "Event", "Level", "When", "Fields")

    assert expected == [[row[0], row[1], set(quoted(row[3]))] for row in rows]


@pytest.mark.parametrize("event", sorted(events()))
def test_an_event_is_a_noun_and_what_became_of_it(event: str) -> None:
    """So that whoever filters a log need not quote sentences."""
    assert re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", event)
