"""An inbox on a real store, and runs that do as they are told."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.left_hand import Clock, let_time_come, make_job, make_settings
from worker.inbox import Inbox, Run
from worker.message import Delay, Job, Outcome, Trail
from worker.standing import Standing
from worker.store import Store, StoredOutcome


class Bench:
    """An inbox on a store, and a run that does as it is told."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.clock = Clock()
        self.store = store
        self.inbox = Inbox(store, make_settings(**settings), clock_ms=self.clock)
        self.standings: list[Standing] = []

    @property
    def runs(self) -> int:
        """How often a run was begun."""
        return len(self.standings)

    def succeeding(self, *, calls: int = 1) -> Run:
        """Return a run that makes its calls and succeeds."""

        async def run(job: Job, standing: Standing) -> StoredOutcome:
            self.begin(standing, calls=calls)
            return await self.inbox.keep(
                standing, self.inbox.success(job, {"run": self.runs, "attempts": standing.attempts_now})
            )

        return run

    def failing(self, error: Exception, *, calls: int = 1) -> Run:
        """Return a run that makes its calls and fails."""

        async def run(job: Job, standing: Standing) -> StoredOutcome:
            self.begin(standing, calls=calls)
            raise error

        return run

    async def wait(self) -> None:
        """Let the time come of every job that waits for its next try."""
        await let_time_come(self.store)

    def begin(self, standing: Standing, *, calls: int) -> None:
        """Begin a run: note its standing, and make its calls."""
        self.standings.append(standing)
        for _ in range(calls):
            standing.meter.begin()
            standing.meter.answered({"prompt_tokens": 1}, 0.5)

    def held(self, entered: asyncio.Event, go_on: asyncio.Event, *, then: Run | None = None) -> Run:
        """Return a run that says when it has begun, and goes on when it is told to; it succeeds unless told otherwise."""

        async def run(job: Job, standing: Standing) -> StoredOutcome:
            entered.set()
            await go_on.wait()
            return await (then or self.succeeding())(job, standing)

        return run


def job(key: str | None = "job-1", *, number: int = 1, **properties: Any) -> Job:
    """Return a job with the same content for the same number."""
    given = {"correlation_id": "c", "reply_to": "replies", **properties}
    return make_job({"args": {"program_id": "p", "inputs": {"n": number}}}, message_id=key, **given)


def body_of(outcome: Outcome) -> bytes:
    """Return the bytes of an outcome's reply."""
    assert outcome.reply is not None
    return outcome.reply.body


def again(outcome: Outcome) -> Trail:
    """Return the trail of the copy that a delay leaves."""
    assert isinstance(outcome.settlement, Delay)
    return outcome.settlement.trail
