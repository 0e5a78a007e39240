"""Jobs whose worker died under them: alone at first, and after three crashes, or many stops, not at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.inbox_bench import Bench, body_of, job
from tests.support.left_hand import open_store
from tests.support.replies import unmarked
from worker.errors import CancelledJobError, ExpiredError
from worker.message import Ack, DeadLetter, Delay, Isolate, Job, Trail
from worker.standing import Standing
from worker.store import Holding, Store, StoredOutcome, Ticket, Verdict

DAY_MS = 86_400_000


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_store(tmp_path) as store:
        yield Bench(store)


async def crash(folder: Path, *, times: int, is_told: bool = False) -> None:
    """Claim the job in workers that end without a word; closing a store takes its worker off the list of the living."""
    for number in range(times):
        async with open_store(folder, worker_id=f"killed-{number}") as store:
            claim = await store.claim(Ticket("job-1", job().body_hash))
            assert claim.verdict is Verdict.MINE
            if is_told:
                await store.note_stop()


async def test_one_crash_is_no_reason_to_run_alone(bench: Bench, tmp_path: Path) -> None:
    """Or a worker that was killed with a thousand jobs in hand would leave a thousand to be run one by one."""
    await crash(tmp_path, times=1)
    outcome = await bench.inbox.once(job(), bench.succeeding())

    assert (outcome.code, outcome.settlement) == ("ok", Ack())


async def test_a_job_that_may_have_killed_its_worker_asks_to_run_alone(bench: Bench, tmp_path: Path) -> None:
    """It is not run, its row is free, and meanwhile it may take a hop, which is no attempt."""
    await crash(tmp_path, times=2)
    outcome = await bench.inbox.once(job(trail=Trail(attempts=1, waits=2)), bench.succeeding())
    claim = await bench.store.claim(Ticket("job-1", job().body_hash))

    assert (outcome.reply, outcome.code, bench.runs) == (None, "isolated", 0)
    assert outcome.settlement == Isolate(
        later=Delay(1_000, Trail(attempts=1, waits=3, first_delivered_ms=claim.first_seen_ms))
    )
    assert (claim.verdict, claim.crashes, claim.attempts) == (Verdict.MINE, 2, 0)


async def test_a_job_that_is_alone_runs(bench: Bench, tmp_path: Path) -> None:
    """Its neighbours of that crash are no killers."""
    await crash(tmp_path, times=2)
    outcome = await bench.inbox.once(job(is_alone=True), bench.succeeding())

    assert (outcome.code, outcome.settlement) == ("ok", Ack())


async def test_a_fresh_job_needs_not_be_alone(bench: Bench) -> None:
    """Nor does it mind."""
    assert (await bench.inbox.once(job(is_alone=True), bench.succeeding())).code == "ok"


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_job_that_killed_three_workers_is_not_run_again(bench: Bench, tmp_path: Path, is_alone: bool) -> None:
    """Answered, stored and dead-lettered; the next delivery repeats that."""
    await crash(tmp_path, times=3)
    outcome = await bench.inbox.once(job(is_alone=is_alone), bench.succeeding())
    repeated = await bench.inbox.once(job(), bench.succeeding())

    assert (bench.runs, unmarked(repeated.reply)) == (0, outcome.reply)
    assert isinstance(outcome.settlement, DeadLetter)
    assert outcome.settlement.letter.code == json.loads(body_of(outcome))["error_detail"]["code"] == "worker_lost"


@pytest.mark.parametrize(("times", "code"), [(1, "ok"), (2, "budget_exceeded")])
async def test_a_bound_on_the_cost_outlives_one_crash(bench: Bench, tmp_path: Path, times: int, code: str) -> None:
    """It may be exceeded by the call in flight, which is the one that the crash took along; that was one call."""
    await crash(tmp_path, times=times)

    async def bounded(one: Job, standing: Standing) -> StoredOutcome:
        standing.meter.max_cost_usd = 1.0
        return await bench.succeeding()(one, standing)

    outcome = await bench.inbox.once(job(is_alone=True), bounded)
    meter = bench.standings[0].meter

    assert (outcome.code, meter.calls_lost, meter.to_json()["cost_usd"]) == (code, times, None)


@pytest.mark.parametrize(("stops", "is_isolated"), [(2, False), (3, True), (9, True)])
async def test_a_job_whose_worker_was_stopped_three_times_runs_alone(
    bench: Bench, tmp_path: Path, stops: int, is_isolated: bool
) -> None:
    """Three rolling deployments in one long job are no sign against it, and end nothing."""
    await crash(tmp_path, times=stops, is_told=True)
    outcome = await bench.inbox.once(job(), bench.succeeding())
    alone = await bench.inbox.once(job(is_alone=True), bench.succeeding())

    assert (isinstance(outcome.settlement, Isolate), alone.code) == (is_isolated, "ok")


@pytest.mark.parametrize(("settings", "stops"), [({}, 10), ({"max_stops": 1}, 1)])
async def test_a_job_whose_worker_was_stopped_too_often_ends_with_what_to_do(
    tmp_path: Path, settings: dict[str, int], stops: int
) -> None:
    """It would go on for ever, paid for each time; the sentence tells how long workers must be given."""
    await crash(tmp_path, times=stops, is_told=True)
    async with open_store(tmp_path) as store:
        bench = Bench(store, **settings)
        outcome = await bench.inbox.once(job(is_alone=True), bench.succeeding())

    detail = json.loads(body_of(outcome))["error_detail"]
    times = "once" if stops == 1 else f"{stops} times"
    assert isinstance(outcome.settlement, DeadLetter)
    assert (bench.runs, detail["code"]) == (0, "worker_lost")
    assert f"stopped and then killed its worker {times} while it ran" in detail["message"]
    assert "terminationGracePeriodSeconds" in detail["message"]


async def test_a_call_that_a_stop_took_along_counts_against_the_budget(bench: Bench, tmp_path: Path) -> None:
    """It was made, and what it did cost is not known."""
    await crash(tmp_path, times=2, is_told=True)
    await bench.inbox.once(job(), bench.succeeding())
    meter = bench.standings[0].meter

    assert (meter.calls_lost, meter.to_json()["cost_usd"]) == (2, None)


async def test_a_replay_of_a_killer_begins_anew(bench: Bench, tmp_path: Path) -> None:
    """Whatever killed may be mended."""
    await crash(tmp_path, times=3)
    await bench.inbox.once(job(), bench.succeeding())

    assert (await bench.inbox.once(job(trail=Trail(generation=1)), bench.succeeding())).code == "ok"


async def test_a_job_that_waits_to_be_alone_expires_as_any_other(bench: Bench, tmp_path: Path) -> None:
    """Its caller's clock goes on; nothing of it is kept."""
    await crash(tmp_path, times=2)
    with pytest.raises(ExpiredError):
        await bench.inbox.once(job(headers={"x-dspex-deadline": bench.clock.now_ms - 1}), bench.succeeding())

    assert await bench.store.get_state("job-1") is None


async def test_a_job_that_waits_to_be_alone_never_grows_too_old(bench: Bench, tmp_path: Path) -> None:
    """It has not failed: nobody has tried it yet without its neighbours."""
    await crash(tmp_path, times=2)
    outcome = await bench.inbox.once(job(trail=Trail(first_delivered_ms=1)), bench.succeeding())

    assert isinstance(outcome.settlement, Isolate)


async def test_a_cancelled_job_is_cancelled_whatever_it_killed(bench: Bench, tmp_path: Path) -> None:
    """What its owner asked for is what it is told."""
    await crash(tmp_path, times=3)
    await mark(bench.store)
    with pytest.raises(CancelledJobError):
        await bench.inbox.once(job(), bench.succeeding())


async def mark(store: Store) -> None:
    said = StoredOutcome(is_success=True, code=None, reply=b"{}", settlement="")
    await store.cancel("job-1", holding=Holding(None, "", DAY_MS), answer=lambda _: said)
