"""Deliveries of a job that runs in this very process: they wait for that run's end instead of running it again.

A job is delivered again while it runs where its channel was closed (the broker's ack time-out, a lost connection). The
run goes on without its delivery, so the delivery that joined it is the one that is answered and settled.

Where its sender published it twice, the run has a delivery that answers and settles. Then the other one does not wait
here: it would take the place of a neighbour for as long as the run lasts, and make a second dead letter at its end. So
of all deliveries that wait for one run, one at most is alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from worker.message import Delivery, Outcome
from worker.runs import JobId


@dataclass(slots=True, eq=False)
class Lead:
    """A run that others may join.

    Attributes:
        deliveries: That which began it, and those that joined.
        outcome: How it ended, once it did; None where it ended with an exception.
    """

    deliveries: list[Delivery]
    outcome: Outcome | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)


class Joins:
    """The runs of this process, each with those that wait for its end."""

    def __init__(self) -> None:
        # More than one where a row was taken over from a run of this process that still hangs.
        self._leads: dict[JobId, list[Lead]] = {}

    @contextmanager
    def leading(self, job: JobId, delivery: Delivery) -> Iterator[Lead]:
        """Let others wait for the end of the block."""
        lead = Lead([delivery])
        self._leads.setdefault(job, []).append(lead)
        try:
            yield lead
        finally:
            self._forget(job, lead)
            lead._ended.set()

    def has_living(self, job: JobId) -> bool:
        """Tell whether the newest run of a job has a delivery that the broker has not taken back."""
        leads = self._leads.get(job, [])
        return any(not delivery.is_gone() for lead in leads[-1:] for delivery in lead.deliveries)

    async def ended(self, job: JobId, delivery: Delivery) -> Outcome | None:
        """Wait for the end of the newest run of a job, and return how it ended.

        To cancel the wait cancels nothing else. Returns None at once where no run is known: the claim that was seen
        has just been made, or has just ended.
        """
        leads = self._leads.get(job)
        if not leads:
            return None
        lead = leads[-1]
        lead.deliveries.append(delivery)
        try:
            await lead._ended.wait()
        finally:
            lead.deliveries = [other for other in lead.deliveries if other is not delivery]
        return lead.outcome

    def _forget(self, job: JobId, lead: Lead) -> None:
        self._leads[job].remove(lead)
        if not self._leads[job]:
            del self._leads[job]
