"""Deliveries of a job that runs in this very process: they wait for that run's end instead of running it again.

A job is delivered again while it runs where its channel was closed (the broker's ack time-out, a lost connection) or
where its sender published it twice. The run goes on without its delivery, so the delivery that joined it is the one
that is answered and settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.message import Outcome
from worker.runs import JobId


@dataclass(slots=True, eq=False)
class Lead:
    """A run that others may join.

    Attributes:
        outcome: How it ended, once it did; None where it ended with an exception.
    """

    outcome: Outcome | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)


class Joins:
    """The runs of this process, each with those that wait for its end."""

    def __init__(self) -> None:
        # More than one where a row was taken over from a run of this process that still hangs.
        self._leads: dict[JobId, list[Lead]] = {}

    @contextmanager
    def leading(self, job: JobId) -> Iterator[Lead]:
        """Let others wait for the end of the block."""
        lead = Lead()
        self._leads.setdefault(job, []).append(lead)
        try:
            yield lead
        finally:
            self._forget(job, lead)
            lead._ended.set()

    async def ended(self, job: JobId) -> Outcome | None:
        """Wait for the end of the newest run of a job, and return how it ended.

        To cancel the wait cancels nothing else. Returns None at once where no run is known: the claim that was seen
        has just been made, or has just ended.
        """
        leads = self._leads.get(job)
        if not leads:
            return None
        lead = leads[-1]
        await lead._ended.wait()
        return lead.outcome

    def _forget(self, job: JobId, lead: Lead) -> None:
        self._leads[job].remove(lead)
        if not self._leads[job]:
            del self._leads[job]
