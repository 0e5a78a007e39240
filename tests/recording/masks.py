"""What differs from one run of the demo to the next: numbers, ports, values that the offline LM makes up, column widths."""

from __future__ import annotations

import re

_COLUMN = "│"
_OUTPUTS = 3


def masked(line: str) -> str:
    """Return a line of the demo with a sign in the place of each thing that differs."""
    cells = line.split(_COLUMN)
    if len(cells) > _OUTPUTS:
        cells[_OUTPUTS] = re.sub(r'\[.*\]|"[^"]*"|\d[\d.]*', "*", cells[_OUTPUTS])
    line = re.sub(r"%\{[^}]*\}", "%{*}", _COLUMN.join(cells))
    line = re.sub(r"\d+(\.\d+)*", "#", line)
    return re.sub(r"([━─ ])\1+", r"\1", line)
