"""Progress of long work, on stderr: bars on a terminal, a line a step elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Shows one step at a time."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, *, total: int) -> Iterator[Callable[[], None]]:
        """Show a step inside the block and yield what to call for each of its ``total`` parts."""
        if not self._console.is_terminal:
            self.say(f"    {title}")
            yield lambda: None
            return
        columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=self._console, transient=True, refresh_per_second=4) as bars:
            task = bars.add_task(title, total=total)
            yield lambda: bars.advance(task)
