"""Lines of a terminal as an SVG, and back.

The picture loads no font and no script: it is shown on pages that allow neither.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.text import Text

WIDTH = 120
CUT = "…"
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_TEXT = "{http://www.w3.org/2000/svg}text"
# Beginning of a line → how a terminal shows the demo's line.
_STYLES = (
    (r"^›", "bold cyan"),
    (r"^✓.*", "bold green"),
    (r"^Some of the results", "italic"),
    (r"^The offline LM.*", "italic dim"),
    (r"^┃.*", "bold"),
)


def draw(lines: Sequence[str], *, title: str) -> str:
    """Return the SVG of a terminal that shows these lines; what is longer than a line ends with ``…``."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in cut(lines):
        text = Text(line)
        for beginning, style in _STYLES:
            text.highlight_regex(beginning, style)
        console.print(text, no_wrap=True, overflow="crop", highlight=False)
    drawn = _with_fonts_of_the_reader(console.export_svg(title=title, unique_id="demo"))
    return "".join(f"{line.rstrip()}\n" for line in drawn.splitlines())


def _with_fonts_of_the_reader(svg: str) -> str:
    svg = re.sub(r"\s+@font-face \{.*?\}(?=\n)", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", _FONTS).replace("font-family: arial", "font-family: sans-serif")


def cut(lines: Sequence[str]) -> list[str]:
    """Return the lines no longer than the terminal is wide."""
    return [line if len(line) <= WIDTH else line[: WIDTH - 1] + CUT for line in lines]


def read(svg: str) -> list[str]:
    """Return the lines that a picture shows."""
    rows: dict[float, str] = {}
    for element in ET.fromstring(svg).iter(_TEXT):
        if "clip-path" in element.attrib:  # the title has none
            row = float(element.attrib["y"])
            rows[row] = rows.get(row, "") + (element.text or "").replace("\xa0", " ")
    return [rows[row].rstrip() for row in sorted(rows)]
