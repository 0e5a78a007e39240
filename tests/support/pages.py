"""The pages of the documentation as data: tables, code blocks, links."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Differ from run to run; everything else in an example is compared.
_VOLATILE = {"timestamp", "execution_time"}


class Block(NamedTuple):
    """One fenced block: its language, empty where none is given, and its text."""

    language: str
    text: str


def read(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def table(page: str, *heading: str) -> list[list[str]]:
    """Return the rows of the first table of a page that has this heading."""
    return _table(read(page).splitlines(), *heading)


def table_after(page: str, text: str, *heading: str) -> list[list[str]]:
    """Return the rows of the first table with this heading below a line that begins with a text."""
    lines = read(page).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(text))
    return _table(lines[start:], *heading)


def _table(lines: list[str], *heading: str) -> list[list[str]]:
    start = lines.index(f"| {' | '.join(heading)} |")
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def quoted(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall("`([^`]+)`", cell)


def all_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", read(page), flags=re.DOTALL | re.MULTILINE)]


def blocks(page: str, language: str) -> list[str]:
    """Return the texts of a page's blocks in one language."""
    return [block.text for block in all_blocks(page) if block.language == language]


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def still(value: Any) -> Any:
    """Return a reply without what differs from run to run."""
    if isinstance(value, dict):
        return {key: still(member) for key, member in value.items() if key not in _VOLATILE}
    return [still(member) for member in value] if isinstance(value, list) else value
