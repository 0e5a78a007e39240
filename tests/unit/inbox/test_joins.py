"""Deliveries of a job that runs in this very process: they join that run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.inbox_bench import Bench, again, body_of, job
from tests.support.left_hand import open_store
from tests.support.replies import unmarked
from worker.errors import IdempotencyConflictError, InvalidInputsError, LMUnavailableError, OutputInvalidError
from worker.inbox import Run
from worker.message import Ack, DeadLetter, Delay, Job, Outcome, Trail
from worker.standing import Standing
from worker.store import Claim, Store, StoredOutcome, Ticket, Verdict


class Watched:
    """A store whose claims can be waited for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.verdicts: asyncio.Queue[Verdict] = asyncio.Queue()

    async def claim(self, ticket: Ticket) -> Claim:
        claim = await self._store.claim(ticket)
        self.verdicts.put_nowait(claim.verdict)
        return claim

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Two:
    """Two deliveries of one job: the first runs until it is told to go on, the second comes meanwhile.

    Attributes:
        is_gone: Whether the broker has taken the first one back.
    """

    is_gone = True

    def __init__(self, bench: Bench, watched: Watched) -> None:
        self.bench = bench
        self.watched = watched
        self.go_on = asyncio.Event()

    async def start(self, *, then: Run | None = None, second: Job | None = None) -> None:
        entered = asyncio.Event()
        once = self.bench.inbox.once
        leading = job(is_gone=lambda: self.is_gone)
        self.first = asyncio.create_task(once(leading, self.bench.held(entered, self.go_on, then=then)))
        await entered.wait()
        assert await self.watched.verdicts.get() is Verdict.MINE
        self.second = asyncio.create_task(once(second or job(), self.bench.succeeding()))
        assert await self.watched.verdicts.get() is Verdict.HERE

    async def end(self) -> tuple[Outcome, Outcome]:
        self.go_on.set()
        return await self.first, await self.second


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with open_store(tmp_path) as store:
        watched = Watched(store)
        yield Two(Bench(watched), watched)  # type: ignore[arg-type]


async def test_the_joiner_answers_with_what_the_run_stored(two: Two) -> None:
    """One run, no hop on the ladder, the same bytes under the same message id."""
    await two.start()
    first, second = await two.end()

    assert two.bench.runs == 1
    assert (unmarked(second.reply), second.settlement) == (first.reply, Ack())


async def test_the_joiner_keeps_the_dead_letter_that_the_run_may_not_make(two: Two) -> None:
    """The run's own delivery may be gone: then its settlement is nobody's but the joiner's."""
    await two.start(then=two.bench.failing(OutputInvalidError("bad")))
    first, second = await two.end()

    assert isinstance(second.settlement, DeadLetter)
    assert (unmarked(second.reply), second.settlement) == (first.reply, first.settlement)


async def test_the_joiner_waits_as_long_as_the_run_does(two: Two) -> None:
    """Otherwise it would call at once an LM that has just asked for time; it keeps its own trail."""
    second = job(trail=Trail(waits=7, first_delivered_ms=5))
    await two.start(then=two.bench.failing(LMUnavailableError("down")), second=second)
    _, outcome = await two.end()

    assert two.bench.runs == 1
    assert outcome.settlement == Delay(1_000, Trail(attempts=1, waits=7, first_delivered_ms=5))


async def test_a_refusal_that_cost_nothing_is_worked_out_again(two: Two) -> None:
    """Nothing is stored to answer with."""
    await two.start(then=two.bench.failing(InvalidInputsError("no"), calls=0))
    two.go_on.set()
    with pytest.raises(InvalidInputsError):
        await two.first

    assert (await two.second).code == "ok"


async def test_a_drain_of_the_joiner_does_not_touch_the_run(two: Two) -> None:
    """Its result is stored and answered."""
    await two.start()
    two.second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two.second
    two.go_on.set()

    assert (await two.first).code == "ok"


async def test_the_joiner_takes_over_from_a_run_that_was_cut_off(two: Two) -> None:
    """The row is free again."""
    await two.start()
    two.first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two.first

    assert (await two.second).code == "ok"


async def test_the_joiner_keeps_the_time_of_a_retry_that_was_cut_off_while_its_row_was_put_back(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has ended without an outcome to join: what its row says counts."""
    writing, go_on, release = asyncio.Event(), asyncio.Event(), two.watched.release

    async def held(*args: Any, **kwargs: Any) -> None:
        writing.set()
        await go_on.wait()
        await release(*args, **kwargs)

    monkeypatch.setattr(two.watched, "release", held, raising=False)
    await two.start(then=two.bench.failing(LMUnavailableError("down")))
    two.go_on.set()
    await writing.wait()
    two.first.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await two.first

    assert ((await two.second).code, two.bench.runs) == ("delayed", 1)


async def test_other_content_is_a_conflict_while_the_first_runs(two: Two) -> None:
    """At once, and not when the run has ended."""
    await two.start()
    with pytest.raises(IdempotencyConflictError):
        await two.bench.inbox.once(job(number=2), two.bench.succeeding())

    await two.end()


async def test_a_duplicate_of_a_run_that_settles_itself_takes_no_place(two: Two) -> None:
    """It hops at once, while the run goes on, and is answered from the store when it comes back."""
    two.is_gone = False
    await two.start()
    hop = await two.second
    first = await end_of(two)
    repeated = await two.bench.inbox.once(job(trail=again(hop)), two.bench.succeeding())

    assert hop.settlement == Delay(1_000, Trail(waits=1, first_delivered_ms=two.bench.clock.now_ms))
    assert (unmarked(repeated.reply), repeated.settlement, two.bench.runs) == (first.reply, Ack(), 1)


async def test_duplicates_of_a_job_that_fails_make_one_dead_letter(two: Two) -> None:
    """Each has its reply; the run's own delivery has made the letter."""
    two.is_gone = False
    await two.start(then=two.bench.failing(OutputInvalidError("bad")))
    hop = await two.second
    first = await end_of(two)
    assert first.on_settled is not None
    await first.on_settled()
    repeated = await two.bench.inbox.once(job(trail=again(hop)), two.bench.succeeding())

    assert isinstance(first.settlement, DeadLetter)
    assert (unmarked(repeated.reply), repeated.settlement) == (first.reply, Ack())


async def test_one_of_many_deliveries_joins_a_run_whose_own_is_gone(two: Two) -> None:
    """The others hop: a joiner that lives answers and settles for the run."""
    await two.start()
    hops = [await two.bench.inbox.once(job(), two.bench.succeeding()) for _ in range(20)]
    _, second = await two.end()

    assert (second.code, two.bench.runs) == ("ok", 1)
    assert {type(hop.settlement) for hop in hops} == {Delay}


async def test_a_delivery_joins_where_the_joiner_is_gone_as_well(two: Two) -> None:
    """The ack time-out may be shorter than the wait."""
    await two.start(second=job(is_gone=lambda: True))
    third = asyncio.create_task(two.bench.inbox.once(job(), two.bench.succeeding()))
    assert await two.watched.verdicts.get() is Verdict.HERE
    await two.end()

    assert ((await third).code, two.bench.runs) == ("ok", 1)


async def end_of(two: Two) -> Outcome:
    """Let the run end, and return how it did."""
    two.go_on.set()
    return await two.first


async def test_a_run_that_nobody_knows_is_looked_for_again_later(two: Two) -> None:
    """Claimed in this process, but by no inbox that could be joined: bounded, then a hop on the ladder."""
    await two.watched.claim(Ticket("job-1", job().body_hash))
    outcome = await two.bench.inbox.once(job(), two.bench.succeeding())

    assert (two.bench.runs, type(outcome.settlement)) == (0, Delay)


async def test_deliveries_of_two_tenants_do_not_join(two: Two) -> None:
    """The same message id, two jobs."""

    async def run(one: Job, standing: Standing) -> StoredOutcome:
        return await two.bench.inbox.keep(standing, two.bench.inbox.success(one, {"of": one.tenant}))

    await two.start()
    outcome = await two.bench.inbox.once(job(tenant="b"), run)
    await two.end()

    assert b'"of":"b"' in body_of(outcome)
