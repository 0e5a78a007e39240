"""What the demo says: short lines, a progress bar on a terminal, a table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from worker.demo.runs import Run

_PLAIN_WIDTH = 120
_PLAIN_EVERY = 50
_CELL_LENGTH = 70

_CAPTION = "The offline LM makes its values up; only their types and constraints are real."

NEXT = """\
What to type next:
  make worker                             a private broker and a worker that you can call
  .venv/bin/dspex-worker serve --help     every setting, with its default
  docker compose up -d --build --scale worker=4
                                          a broker, a store and four workers that stay
  .venv/bin/dspex-worker call ping        ask the workers behind DSPEX_AMQP_URL anything
  make test                               everything else, tried on your machine"""


class Screen:
    """Speak to the person in front of the demo; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, width=_PLAIN_WIDTH)

    def say(self, text: str) -> None:
        """Print one step of the story."""
        self._console.print(f"[bold cyan]›[/] {escape(text)}", soft_wrap=True)

    def complain(self, text: str) -> None:
        """Print what went wrong."""
        self._console.print(f"[bold red]✗[/] {escape(text)}", soft_wrap=True)

    def show_log(self, name: str, text: str) -> None:
        """Print the end of a worker's log."""
        self._console.print(f"[bold]the end of {name}'s log:[/]\n{escape(text)}", soft_wrap=True)

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show how many of ``total`` jobs are answered; yields what to call with the count so far."""
        if not self._console.is_terminal:
            yield lambda count: self.say(f"{count} of {total} answered") if count % _PLAIN_EVERY == 0 else None
            return
        columns = (TextColumn("  jobs answered"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            bar = progress.add_task("jobs", total=total)
            yield lambda count: progress.update(bar, completed=count)

    def show_results(self, runs: Sequence[Run]) -> None:
        """Print a table of runs."""
        table = Table(title="Some of the results", title_justify="left", caption=_CAPTION, caption_justify="left")
        for heading in ("program", "inputs", "outputs"):
            table.add_column(heading, overflow="fold")
        table.add_column("ms", justify="right", no_wrap=True)
        for run in runs:
            table.add_row(run.name, _cell(run.inputs), _cell(run.outputs), f"{run.seconds * 1_000:.0f}")
        self._console.print(table)

    def show_success(self, summary: str) -> None:
        """Print the last lines: how it went, and what to do now."""
        self._console.print(f"[bold green]✓ {escape(summary)}[/]\n")
        self._console.print(NEXT, markup=False)


def _cell(values: Mapping[str, Any]) -> str:
    lines = (f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
    return escape("\n".join(line if len(line) <= _CELL_LENGTH else f"{line[: _CELL_LENGTH - 1]}…" for line in lines))
