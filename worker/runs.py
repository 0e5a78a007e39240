"""The runs of this process that a cancel may stop.

A run is stopped by cancelling the task it is in, which aborts the LM call under way. So does the end of a drain; what
tells the two apart is who asked: a run that was stopped here ends in `CancelledJobError`, anything else stays the
``CancelledError`` that it was. A run that ends by itself before the stop reaches it keeps its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.errors import CancelledJobError

JobId = tuple[str, str]
"""A job's tenant and key."""


@dataclass(slots=True, eq=False)
class _Run:
    task: asyncio.Task[object]
    is_stopped: bool = False


class Runs:
    """Registers what runs, and stops it."""

    def __init__(self) -> None:
        # More than one where a job was taken over from this process while it still runs here.
        self._runs: dict[JobId, list[_Run]] = {}

    @property
    def jobs(self) -> set[JobId]:
        """The jobs that could be stopped now."""
        return set(self._runs)

    def stop(self, job: JobId) -> bool:
        """Stop a job's runs and say whether there were any; stopping twice is stopping once."""
        runs = self._runs.get(job, [])
        for run in runs:
            if not run.is_stopped:
                run.is_stopped = True
                run.task.cancel()
        return bool(runs)

    @contextmanager
    def stoppable(self, job: JobId) -> Iterator[None]:
        """Let `stop` end the block.

        Raises:
            CancelledJobError: It did.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be stopped")
        run = _Run(task)
        cancels_before = task.cancelling()
        self._runs.setdefault(job, []).append(run)
        try:
            yield
        except asyncio.CancelledError:
            if run.is_stopped and task.uncancel() <= cancels_before:
                raise cancelled() from None
            raise
        except BaseException:
            _take_back(run)
            raise
        else:
            _take_back(run)
        finally:
            self._forget(job, run)

    def _forget(self, job: JobId, run: _Run) -> None:
        self._runs[job].remove(run)
        if not self._runs[job]:
            del self._runs[job]


def cancelled() -> CancelledJobError:
    """Return the error that a cancelled job ends in."""
    return CancelledJobError("The job was cancelled")


def _take_back(run: _Run) -> None:
    """Undo a cancel that the block swallowed: what it brought instead stands."""
    if run.is_stopped:
        run.task.uncancel()
