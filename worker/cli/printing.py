"""Print for people and for machines: tables and colours on a terminal, plain text and JSON elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

# Without a terminal there is no width; rich would take 80 and break names.
_PLAIN_WIDTH = 140


def print_json(document: Any) -> None:
    """Print JSON, coloured on a terminal."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    from rich.console import Console

    Console().print_json(text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; its first column is never broken.

    Args:
        columns: Headings.
        rows: Cells, as many a row as there are columns; a rich ``Text`` keeps its style.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text("–" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)
