"""The table of figures, and the machine they belong to."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiormq
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

_STYLES = {"ok": "green", "over": "red", "–": "dim"}
_PIPED_WIDTH = 160


async def describe_machine(url: str) -> dict[str, str]:
    """Return what the figures depend on: name → value."""
    async with aiormq.connect(url) as connection:
        broker = connection.server_properties.get("version", "unknown")
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "CPU": _cpu_model(),
        "Python": platform.python_version(),
        "RabbitMQ": broker.decode() if isinstance(broker, bytes) else str(broker),
        "dspy": version("dspy"),
    }


def print_report(figures: Sequence[Figure], machine: dict[str, str]) -> None:
    """Print the table on stdout."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    table = Table(title="dspex-worker", caption=", ".join(f"{name} {text}" for name, text in machine.items()))
    table.add_column("figure")
    table.add_column("measured", justify="right")
    table.add_column("budget", justify="right")
    table.add_column("")
    table.add_column("note", style="dim")
    for one in figures:
        bound = "" if one.bound is None else str(one.bound)
        verdict = one.verdict
        table.add_row(one.name, measured(one), bound, f"[{_STYLES[verdict]}]{verdict}[/]", one.note)
    console.print(table)


def write_json(path: Path, figures: Sequence[Figure], machine: dict[str, str]) -> None:
    """Write all figures to a file, for machines."""
    rows: list[dict[str, Any]] = [
        asdict(one) | {"bound": one.bound and str(one.bound), "verdict": one.verdict} for one in figures
    ]
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2, ensure_ascii=False) + "\n")


def measured(figure: Figure) -> str:
    """Write a figure with its unit, three digits of it at least."""
    digits = 0 if figure.value >= 100 else 1 if figure.value >= 10 else 2
    return f"{figure.value:,.{digits}f} {figure.unit}".strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
