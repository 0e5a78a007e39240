"""Keeps what was measured in ``docs/reliability.json`` and writes its table into ``docs/RELIABILITY.md``.

Goals are kept one by one, so that they can be measured one at a time; only measured ones stand in the table.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from rabbit_node import find_server

from tests.faults.goals import all_goals
from tests.faults.measured import Goal, Measured

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "RELIABILITY.md"
BEGIN = "<!-- measured: begin (python -m tests.faults --long --write) -->"
END = "<!-- measured: end -->"
_HEAD = "| Goal | Load and fault | Pass | Measured | Seed, date |\n|---|---|---|---|---|"


def keep(goal: Goal[Any], measured: Measured, *, seed: int) -> None:
    """Write one goal's figures into the record, and the table anew."""
    record = read_record()
    record[goal.key] = {
        "load": goal.load(goal.long),
        "pass": goal.passes,
        "size": dataclasses.asdict(goal.long),
        "figures": dict(measured.figures),
        "missed": measured.reason,
        "seed": seed,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": machine(),
    }
    order = [one.key for one in all_goals()]
    record = {key: record[key] for key in order if key in record}
    RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BETWEEN.sub(lambda _: f"{BEGIN}\n{render(record)}\n{END}", page), encoding="utf-8")


def read_record() -> dict[str, Any]:
    """Return goal → what was measured."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8"))) if RECORD.exists() else {}


def read_table() -> str:
    """Return what stands between the markers of the page."""
    found = _BETWEEN.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"{PAGE.name} has lost its markers {BEGIN} and {END}"
    return found.group(1).strip()


def render(record: Mapping[str, Any]) -> str:
    """Return the table of a record, and the machines that it was measured on."""
    if not record:
        return "Nothing has been measured yet."
    rows = "\n".join(_row(key, kept) for key, kept in record.items())
    machines = "\n".join(f"- {text}" for text in dict.fromkeys(kept["machine"] for kept in record.values()))
    return f"{_HEAD}\n{rows}\n\nMeasured on:\n\n{machines}"


def machine() -> str:
    """Say what this was measured on."""
    server = find_server()
    versions = re.search(r"rabbitmq_server-([\d.]+)", str(server)) if server else None
    rabbit = versions.group(1) if versions else "of unknown version"
    memory_gb = psutil.virtual_memory().total / 1024**3
    return (
        f"{os.cpu_count()} cores ({_cpu()}), {memory_gb:.0f} GB, {platform.system()} {platform.machine()}, "
        f"RabbitMQ {rabbit}, Python {platform.python_version()}"
    )


def _row(key: str, kept: Mapping[str, Any]) -> str:
    figures = Measured(kept["figures"]).words()
    missed = f"**missed: {kept['missed'].splitlines()[0]}** " if kept["missed"] else ""
    cells = (key.replace("-", " "), kept["load"], kept["pass"], missed + figures, f"{kept['seed']}, {kept['date']}")
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


_BETWEEN = re.compile(f"{re.escape(BEGIN)}\n(.*?)\n?{re.escape(END)}", re.DOTALL)
