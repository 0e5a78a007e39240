"""Print for people and for machines: tables and colours on a terminal, plain text and JSON elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

# C0 and C1: a terminal obeys them, and a message's sender chooses the text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Without a terminal there is no width; rich would take 80 and break names.
_PLAIN_WIDTH = 140
# A line of its own may be longer: nothing in it is broken.
_PLAIN_LINE = 180
_GAP = "  "
# A column of names; their senders choose them.
_MAX_CELL = 64


def escape(text: str) -> str:
    r"""Return a text of somebody else's for a terminal: control characters as ``\x1b``, so all in one line."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def print_json(document: Any) -> None:
    """Print JSON, coloured on a terminal."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    # JSON itself escapes C0 only.
    text = re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    from rich.console import Console
    from rich.highlighter import JSONHighlighter

    # rich's own print_json would write the characters again that are escaped here.
    Console().print(JSONHighlighter()(text), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; its first column is never broken, and no cell speaks to the terminal.

    Args:
        columns: Headings.
        rows: Cells, as many a row as there are columns; a rich ``Text`` keeps its style. A line break stays one.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_show(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH).print(table)


def print_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table with one line a row: line breaks are folded, and no line is longer than the terminal is wide.

    Args:
        columns: Headings.
        rows: Cells, as many a row as there are columns.
    """
    from rich.cells import cell_len, set_cell_size

    lines = [list(columns), *([_fold(cell) for cell in row] for row in rows)]
    widths = [min(_MAX_CELL, max(cell_len(line[index]) for line in lines)) for index in range(len(columns) - 1)]
    most = _width()
    for *first, last in lines:
        cells = [set_cell_size(_cut(cell, most=width), width) for cell, width in zip(first, widths, strict=True)]
        typer.echo(_cut(_GAP.join([*cells, last]).rstrip(), most=most))


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PLAIN_LINE


def _fold(cell: object) -> str:
    return "–" if cell is None else escape(" ".join(str(cell).split()))


def _cut(text: str, *, most: int) -> str:
    """Cut a text to the width of so many cells; a character of some scripts takes two."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= most else f"{set_cell_size(text, most - 1).rstrip()}…"


def _show(cell: object) -> str:
    return "–" if cell is None else "\n".join(escape(line) for line in str(cell).split("\n"))
