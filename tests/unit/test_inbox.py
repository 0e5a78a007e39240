"""The inbox: every path from a claim to an outcome, on a real SQLite store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import select

from tests.support.inbox_bench import Bench, again, body_of, job
from tests.support.left_hand import make_job, make_settings, open_left_hand, open_store
from tests.support.replies import unmarked
from worker.errors import (
    BudgetExceededError,
    CallerGoneError,
    CancelledJobError,
    ExpiredError,
    IdempotencyConflictError,
    InvalidInputsError,
    LMAuthError,
    LMInvalidRequestError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    OutputInvalidError,
    ProgramExistsError,
    ProgramNotFoundError,
    WorkerError,
)
from worker.inbox import Run
from worker.message import Ack, AckIfReplied, DeadLetter, Delay, Job, Outcome, Trail
from worker.standing import UNPROTECTED_WARNING, Standing
from worker.store import Holding, Spent, Store, StoredOutcome, StoreUnavailableError, Ticket, Verdict, steadily
from worker.store.schema import jobs

DAY_MS = 86_400_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)


# Success


async def test_a_first_run_is_answered_and_acked(bench: Bench) -> None:
    """Its reply carries ids derived from the job."""
    outcome = await bench.inbox.once(job(), bench.succeeding())

    assert (outcome.code, outcome.settlement, bench.runs) == ("ok", Ack(), 1)
    assert json.loads(body_of(outcome))["result"] == {"run": 1, "attempts": 1}


async def test_a_stored_reply_is_repeated_byte_for_byte_and_nothing_runs(bench: Bench) -> None:
    """Once a result is stored, nothing makes us pay again."""
    first = await bench.inbox.once(job(), bench.succeeding())
    bench.clock.now_ms += 60_000
    second = await bench.inbox.once(job(), bench.succeeding())

    assert bench.runs == 1
    assert (unmarked(second.reply), second.settlement, second.code) == (first.reply, Ack(), "ok")


async def test_the_same_content_under_another_id_is_another_job(bench: Bench) -> None:
    """The key decides."""
    await bench.inbox.once(job("a"), bench.succeeding())
    await bench.inbox.once(job("b"), bench.succeeding())

    assert bench.runs == 2


async def test_a_derived_key_protects_as_well(bench: Bench) -> None:
    """No message id, but a correlation id."""
    for _ in range(2):
        await bench.inbox.once(job(None), bench.succeeding())

    assert bench.runs == 1


async def test_a_job_without_any_id_runs_each_time_and_says_so(bench: Bench) -> None:
    """Plain at-least-once; acked only if somebody heard of it."""
    for _ in range(2):
        outcome = await bench.inbox.once(job(None, correlation_id=None), bench.succeeding())
        assert isinstance(outcome.settlement, AckIfReplied)

    assert [standing.warnings for standing in bench.standings] == [[UNPROTECTED_WARNING]] * 2


async def test_a_job_without_reply_to_keeps_its_result(bench: Bench) -> None:
    """``get_result`` finds it."""
    outcome = await bench.inbox.once(job(reply_to=None), bench.succeeding())
    kept = await bench.store.get_result("job-1")

    assert (outcome.reply, outcome.settlement) == (None, Ack())
    assert kept is not None
    assert json.loads(kept.reply)["success"]


async def test_the_first_success_wins(bench: Bench) -> None:
    """Whoever loses sends the bytes of the winner."""

    async def overtaken(one: Job, standing: Standing) -> StoredOutcome:
        winner = bench.inbox.success(one, {"by": "the other"})
        assert standing.ticket is not None
        await bench.store.finish(standing.ticket, token="another", outcome=winner, spent=Spent(), ttl_ms=DAY_MS)
        return await bench.inbox.keep(standing, bench.inbox.success(one, {"by": "me"}))

    outcome = await bench.inbox.once(job(), overtaken)

    assert json.loads(body_of(outcome))["result"] == {"by": "the other"}


async def test_an_error_loses_to_a_success_of_another(bench: Bench) -> None:
    """Paid work is never thrown away."""

    async def overtaken(one: Job, standing: Standing) -> StoredOutcome:
        assert standing.ticket is not None
        winner = bench.inbox.success(one, {"by": "the other"})
        await bench.store.finish(standing.ticket, token="another", outcome=winner, spent=Spent(), ttl_ms=DAY_MS)
        raise OutputInvalidError("mine was bad")

    outcome = await bench.inbox.once(job(), overtaken)

    assert (outcome.code, outcome.settlement) == ("ok", Ack())


# Not mine


async def test_other_content_under_the_same_id_is_a_conflict(bench: Bench) -> None:
    """It is refused, and what is stored stays."""
    first = await bench.inbox.once(job(number=1), bench.succeeding())
    with pytest.raises(IdempotencyConflictError):
        await bench.inbox.once(job(number=2), bench.succeeding())

    repeated = await bench.inbox.once(job(number=1), bench.succeeding())

    assert unmarked(repeated.reply) == first.reply


async def test_a_job_that_runs_elsewhere_waits_on_the_shortest_step(bench: Bench, tmp_path: Path) -> None:
    """That is no attempt."""
    async with running_elsewhere(bench, tmp_path) as other:
        outcome = await other.inbox.once(job(trail=Trail(attempts=1, waits=2)), other.succeeding())

    assert (outcome.reply, outcome.code, other.runs) == (None, "delayed", 0)
    assert outcome.settlement == Delay(1_000, Trail(attempts=1, waits=3, first_delivered_ms=other.clock.now_ms))


async def test_the_longer_it_runs_elsewhere_the_longer_are_the_steps(bench: Bench, tmp_path: Path) -> None:
    """A dead owner is noticed soon after the lease, and a long run costs few hops; they never exceed 30 seconds."""
    steps = []
    async with running_elsewhere(bench, tmp_path) as other:
        for waits in (0, 4, 5, 9, 10, 500):
            outcome = await other.inbox.once(job(trail=Trail(waits=waits)), other.succeeding())
            assert isinstance(outcome.settlement, Delay)
            steps.append(outcome.settlement.delay_ms)

    assert steps == [1_000, 1_000, 5_000, 5_000, 30_000, 30_000]


async def test_waiting_for_a_run_elsewhere_never_ends_a_job(bench: Bench, tmp_path: Path) -> None:
    """Past its deadline and its age: the run that has the row ends it, perhaps with what was paid for."""
    old: dict[str, Any] = {"trail": Trail(first_delivered_ms=1), "headers": {"x-dspex-deadline": 2}}
    async with running_elsewhere(bench, tmp_path) as other:
        outcome = await other.inbox.once(job(**old), other.succeeding())

    assert isinstance(outcome.settlement, Delay)


@contextlib.asynccontextmanager
async def running_elsewhere(bench: Bench, folder: Path) -> AsyncIterator[Bench]:
    """Let a job run, and give the inbox of another worker meanwhile."""
    entered, go_on = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(bench.inbox.once(job(), bench.held(entered, go_on)))
    await entered.wait()
    async with open_store(folder, worker_id="worker-2") as other_store:
        yield Bench(other_store)
    go_on.set()
    await running


# Trouble that may pass


@pytest.mark.parametrize("error", [LMRateLimitedError, LMTimeoutError, LMUnavailableError, LMAuthError])
async def test_lm_trouble_that_may_pass_waits_on_the_ladder_unanswered(bench: Bench, error: type[WorkerError]) -> None:
    """The copy carries the attempt and the time of the first delivery."""
    outcome = await bench.inbox.once(job(), bench.failing(error("trouble")))
    trail = again(outcome)

    assert (outcome.reply, outcome.code) == (None, "delayed")
    assert (trail.attempts, trail.waits) == (1, 0)
    assert trail.first_delivered_ms is not None


async def test_each_attempt_waits_one_step_longer(bench: Bench) -> None:
    """Attempts are counted in the row, not in the message."""
    steps = []
    for _ in range(4):
        outcome = await bench.inbox.once(job(), bench.failing(LMUnavailableError("down")))
        assert isinstance(outcome.settlement, Delay)
        steps.append(outcome.settlement.delay_ms)
        await bench.wait()

    assert steps == [1_000, 5_000, 30_000, 120_000]
    assert [standing.attempts for standing in bench.standings] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("retry_after_ms", "step_ms"), [(None, 1_000), (0, 1_000), (1_000, 1_000), (1_001, 5_000), (90_000, 120_000)]
)
async def test_the_providers_hint_picks_the_step_that_is_not_shorter(
    bench: Bench, retry_after_ms: int | None, step_ms: int
) -> None:
    """``retry_after`` in milliseconds."""
    error = LMRateLimitedError("slow down", retry_after_ms=retry_after_ms)
    outcome = await bench.inbox.once(job(), bench.failing(error))

    assert isinstance(outcome.settlement, Delay)
    assert outcome.settlement.delay_ms == step_ms


async def test_a_delivery_that_comes_before_the_retrys_time_hops(bench: Bench) -> None:
    """The run's own delivery had died, so the broker sent the message again at once; the LM has asked for time."""
    first = await bench.inbox.once(job(), bench.failing(LMRateLimitedError("slow down", retry_after_ms=2_000)))
    early = await bench.inbox.once(job(), bench.succeeding())
    state = await bench.store.get_state("job-1")
    await bench.wait()
    later = await bench.inbox.once(job(trail=again(early)), bench.succeeding())

    assert isinstance(first.settlement, Delay)
    assert first.settlement.delay_ms == 5_000
    assert early.settlement == Delay(1_000, Trail(waits=1, first_delivered_ms=bench.clock.now_ms))
    assert (state, later.code, [standing.attempts for standing in bench.standings]) == ("waiting", "ok", [0, 1])


async def test_a_job_that_hops_until_its_retrys_time_ends_by_its_deadline(bench: Bench) -> None:
    """Not while it hops, but when its time has come."""
    headers = {"x-dspex-deadline": bench.clock.now_ms + 40_000}
    await bench.inbox.once(job(headers=headers), bench.failing(LMTimeoutError("slow", retry_after_ms=20_000)))
    bench.clock.now_ms += 40_001
    hop = await bench.inbox.once(job(headers=headers), bench.succeeding())
    await bench.wait()
    ended = await bench.inbox.once(job(headers=headers), bench.succeeding())

    assert isinstance(hop.settlement, Delay)
    assert (ended.code, bench.runs) == (ExpiredError.code, 1)


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_job_is_free_before_its_copy_leaves_the_ladder(bench: Bench, calls: int) -> None:
    """The clocks of the broker and the store are not one: a little early must not cost a second hop."""
    error = LMUnavailableError("down", retry_after_ms=900)
    before_ms = (await bench.store.claim(Ticket("clock", ""))).now_ms
    outcome = await bench.inbox.once(job(), bench.failing(error, calls=calls))
    after_ms = (await bench.store.claim(Ticket("clock", ""))).now_ms
    due_ms = await bench.store._read(lambda c: c.execute(select(jobs.c.not_before_ms)).scalars().all())
    step_ms = outcome.settlement.delay_ms if isinstance(outcome.settlement, Delay) else 0

    [due] = [each for each in due_ms if each is not None]
    assert before_ms + step_ms - 100 <= due <= after_ms + step_ms - 100


async def test_a_program_that_is_still_made_puts_nothing_off(bench: Bench) -> None:
    """Only trouble of the LM does: whoever comes next may look for the program."""
    waiting = await bench.inbox.once(job(), bench.failing(ProgramNotFoundError("p"), calls=0))
    outcome = await bench.inbox.once(job(), bench.succeeding())

    assert isinstance(waiting.settlement, Delay)
    assert outcome.code == "ok"


async def test_calls_and_cost_add_up_over_the_deliveries(bench: Bench) -> None:
    """The budget covers them all together."""
    await bench.inbox.once(job(), bench.failing(LMUnavailableError("down"), calls=2))
    await bench.wait()
    await bench.inbox.once(job(), bench.succeeding(calls=3))

    assert bench.standings[1].meter.to_json()["lm_calls"] == 5
    assert bench.standings[1].meter.to_json()["cost_usd"] == pytest.approx(2.5)
    assert bench.standings[1].attempts_now == 2


async def test_calls_of_earlier_deliveries_count_against_the_budget(store: Store) -> None:
    """Two of three are gone."""
    bench = Bench(store, max_lm_calls=3)
    await bench.inbox.once(job(), bench.failing(LMUnavailableError("down"), calls=2))
    await bench.wait()
    outcome = await bench.inbox.once(job(), bench.succeeding(calls=2))

    assert (outcome.code, type(outcome.settlement)) == (BudgetExceededError.code, DeadLetter)


def _ended(outcome: Outcome, code: str) -> dict[str, Any]:
    """Check that a job ended with an error and a dead letter; return the error's detail."""
    body = json.loads(body_of(outcome))
    assert isinstance(outcome.settlement, DeadLetter)
    assert (outcome.code, outcome.settlement.letter.code, body["error_detail"]["code"]) == (code, code, code)
    return dict(body["error_detail"])


async def test_attempts_that_are_used_up_end_the_job_with_the_real_code(store: Store) -> None:
    """Reply and dead letter."""
    bench = Bench(store, max_attempts=2)
    first = await bench.inbox.once(job(), bench.failing(LMRateLimitedError("slow down", retry_after_ms=700)))
    await bench.wait()
    outcome = await bench.inbox.once(job(), bench.failing(LMRateLimitedError("slow down", retry_after_ms=700)))
    detail = _ended(outcome, "lm_rate_limited")

    assert isinstance(first.settlement, Delay)
    assert (detail["attempts"], detail["retry_after"], detail["recoverable"]) == (2, 700, True)


async def test_a_hint_beyond_the_ladder_ends_the_job(bench: Bench) -> None:
    """Nothing on the broker waits that long."""
    error = LMRateLimitedError("tomorrow", retry_after_ms=3_600_001)

    assert _ended(await bench.inbox.once(job(), bench.failing(error)), "lm_rate_limited")["retry_after"] == 3_600_001


@pytest.mark.parametrize(("age_ms", "is_ended"), [(7_199_000, False), (7_199_001, True)])
async def test_a_job_that_would_grow_too_old_ends_now(bench: Bench, age_ms: int, is_ended: bool) -> None:
    """The age counts from the first delivery, the next step included."""
    trail = Trail(first_delivered_ms=bench.clock.now_ms - age_ms)
    outcome = await bench.inbox.once(job(trail=trail), bench.failing(LMUnavailableError("down")))

    assert isinstance(outcome.settlement, DeadLetter if is_ended else Delay)


@pytest.mark.parametrize(("left_ms", "is_ended"), [(1_000, False), (999, True)])
async def test_a_job_that_would_pass_its_deadline_ends_now(bench: Bench, left_ms: int, is_ended: bool) -> None:
    """The caller hears the real reason while it still listens."""
    headers = {"x-dspex-deadline": bench.clock.now_ms + left_ms}
    outcome = await bench.inbox.once(job(headers=headers), bench.failing(LMTimeoutError("slow")))

    assert isinstance(outcome.settlement, DeadLetter if is_ended else Delay)


async def test_the_time_of_the_first_delivery_is_kept_over_copies(bench: Bench) -> None:
    """Otherwise a job would never grow old."""
    first = again(await bench.inbox.once(job(), bench.failing(LMUnavailableError("down"))))
    bench.clock.now_ms += 5_000
    second = again(await bench.inbox.once(job(trail=first), bench.failing(LMUnavailableError("down"))))

    assert second.first_delivered_ms == first.first_delivered_ms


async def test_the_clocks_begin_before_the_first_run_not_after_it(bench: Bench) -> None:
    """Age and ``expiration`` count from the delivery, and a run may last for minutes."""
    began_ms = bench.clock.now_ms

    async def slow(one: Job, standing: Standing) -> StoredOutcome:
        bench.clock.now_ms += 290_000
        return await bench.failing(LMTimeoutError("slow"))(one, standing)

    trail = again(await bench.inbox.once(job(), slow))

    assert trail.first_delivered_ms == pytest.approx(began_ms, abs=60_000)


async def test_a_job_without_a_row_counts_its_attempts_in_the_message(bench: Bench) -> None:
    """There is nowhere else."""
    bare: dict[str, Any] = {"correlation_id": None}
    first = again(await bench.inbox.once(job(None, **bare), bench.failing(LMUnavailableError("down"))))
    second = await bench.inbox.once(job(None, trail=first, **bare), bench.failing(LMUnavailableError("down")))

    assert (first.attempts, again(second).attempts) == (1, 2)


# Errors that stay


async def test_a_failed_run_is_stored_answered_and_dead_lettered(bench: Bench) -> None:
    """The dead letter is repeated until it was confirmed once, then only the reply."""
    first = await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad")))
    bench.clock.now_ms += 1_000
    unconfirmed = await bench.inbox.once(job(), bench.succeeding())
    assert first.on_settled is not None
    await first.on_settled()
    confirmed = await bench.inbox.once(job(), bench.succeeding())

    _ended(first, "output_invalid")
    assert (unmarked(unconfirmed.reply), unconfirmed.settlement) == (first.reply, first.settlement)
    assert (unmarked(confirmed.reply), confirmed.settlement) == (first.reply, Ack())
    assert bench.runs == 1


async def test_a_bug_ends_as_internal_without_details(bench: Bench) -> None:
    """They are in the log only."""
    outcome = await bench.inbox.once(job(), bench.failing(KeyError("secret detail")))

    assert "secret detail" not in json.dumps(_ended(outcome, "internal"))


async def test_a_letter_fits_into_a_header(bench: Bench) -> None:
    """Our own header values stay below 1 KiB."""
    outcome = await bench.inbox.once(job(), bench.failing(OutputInvalidError("ö" * 5_000)))

    assert isinstance(outcome.settlement, DeadLetter)
    assert len(outcome.settlement.letter.message.encode()) <= 1_024


# Refusals


async def test_a_free_refusal_is_raised_and_forgotten(bench: Bench) -> None:
    """A corrected job may come back under the same id."""
    with pytest.raises(InvalidInputsError):
        await bench.inbox.once(job(number=1), bench.failing(InvalidInputsError("no"), calls=0))
    outcome = await bench.inbox.once(job(number=2), bench.succeeding())

    assert outcome.code == "ok"


@pytest.mark.parametrize("generation", [0, 1])
async def test_a_refusal_after_a_run_that_cost_is_kept(bench: Bench, generation: int) -> None:
    """Repeated byte for byte, under the same message id."""
    if generation == 0:
        await bench.inbox.once(job(), bench.failing(LMUnavailableError("down")))
        await bench.wait()
    else:
        await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad")))
    trail = Trail(generation=generation)
    first = await _outcome_of(bench, job(trail=trail), bench.failing(ProgramExistsError("p"), calls=0))
    bench.clock.now_ms += 1_000
    second = await bench.inbox.once(job(trail=trail), bench.succeeding())

    assert bench.runs == 2
    assert second.code == "program_exists"
    assert first is not None
    assert unmarked(second.reply) == first.reply


async def _outcome_of(bench: Bench, one: Job, run: Run) -> Outcome | None:
    try:
        return await bench.inbox.once(one, run)
    except WorkerError:
        return None


async def test_a_refusal_in_the_middle_of_a_run_that_cost_is_kept(bench: Bench) -> None:
    """Every error after an LM call is stored."""
    await _outcome_of(bench, job(), bench.failing(InvalidInputsError("late"), calls=1))

    assert await bench.store.get_result("job-1") is not None


async def test_a_kept_refusal_is_a_dead_letter_until_somebody_heard_of_it(bench: Bench) -> None:
    """The worker may die between the reply and the ack: then the next delivery is settled as the first would have been."""
    first = await bench.inbox.once(job(), bench.failing(InvalidInputsError("late"), calls=1))
    second = await bench.inbox.once(job(), bench.succeeding())
    assert second.on_settled is not None
    await second.on_settled()
    third = await bench.inbox.once(job(), bench.succeeding())

    assert isinstance(first.settlement, AckIfReplied)
    assert (second.settlement, third.settlement) == (first.settlement, Ack())


async def test_an_expired_job_is_never_started(bench: Bench) -> None:
    """Nor is its row kept."""
    headers = {"x-dspex-deadline": bench.clock.now_ms - 1}
    with pytest.raises(ExpiredError):
        await bench.inbox.once(job(headers=headers), bench.succeeding())

    assert bench.runs == 0
    assert await bench.store.get_result("job-1") is None


async def test_a_job_at_its_deadline_still_starts(bench: Bench) -> None:
    """Past it, not at it."""
    headers = {"x-dspex-deadline": bench.clock.now_ms}

    assert (await bench.inbox.once(job(headers=headers), bench.succeeding())).code == "ok"


async def test_a_stored_reply_is_repeated_past_the_deadline(bench: Bench) -> None:
    """It was paid for."""
    headers = {"x-dspex-deadline": bench.clock.now_ms + 10}
    await bench.inbox.once(job(headers=headers), bench.succeeding())
    bench.clock.now_ms += 60_000

    assert (await bench.inbox.once(job(headers=headers), bench.succeeding())).code == "ok"


async def test_an_unknown_program_is_waited_for_once(bench: Bench) -> None:
    """Another worker may still be at it; one hop, which is no attempt."""
    first = await bench.inbox.once(job(), bench.failing(ProgramNotFoundError("p"), calls=0))
    trail = again(first)

    assert isinstance(first.settlement, Delay)
    assert (first.settlement.delay_ms, trail.attempts, trail.waits) == (1_000, 0, 1)
    with pytest.raises(ProgramNotFoundError):
        await bench.inbox.once(job(trail=trail), bench.failing(ProgramNotFoundError("p"), calls=0))


async def test_a_program_that_appeared_meanwhile_is_used(bench: Bench) -> None:
    """The row waits; it is no conflict and no attempt."""
    trail = again(await bench.inbox.once(job(), bench.failing(ProgramNotFoundError("p"), calls=0)))
    outcome = await bench.inbox.once(job(trail=trail), bench.succeeding())

    assert (outcome.code, bench.standings[1].attempts) == ("ok", 0)


# Generations


async def test_a_replay_runs_a_failed_job_anew(bench: Bench) -> None:
    """Counters begin at 0, and the reply has an id of its own."""
    failed = await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad"), calls=3))
    replayed = await bench.inbox.once(job(number=2, trail=Trail(generation=1)), bench.succeeding())

    assert (replayed.code, replayed.settlement, bench.runs) == ("ok", Ack(), 2)
    assert (bench.standings[1].attempts, bench.standings[1].meter.calls) == (0, 1)
    assert failed.reply is not None
    assert replayed.reply is not None
    assert replayed.reply.message_id != failed.reply.message_id
    assert replayed.reply.headers["x-dspex-generation"] == 1


async def test_a_replay_never_runs_a_success_again(bench: Bench) -> None:
    """Its reply is sent again."""
    first = await bench.inbox.once(job(), bench.succeeding())
    replayed = await bench.inbox.once(job(trail=Trail(generation=1)), bench.succeeding())

    assert bench.runs == 1
    assert (unmarked(replayed.reply), replayed.settlement) == (first.reply, Ack())


async def test_a_straggler_of_an_earlier_generation_does_not_run(bench: Bench) -> None:
    """Nor is it a conflict, whatever its content."""
    await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad")))
    replayed = await bench.inbox.once(job(number=2, trail=Trail(generation=1)), bench.succeeding())
    straggler = await bench.inbox.once(job(), bench.succeeding())

    assert bench.runs == 2
    assert (unmarked(straggler.reply), straggler.settlement) == (replayed.reply, Ack())


# Cancels and flags


def mark(bench: Bench, key: str = "job-1") -> Awaitable[StoredOutcome]:
    """Cancel a job as another worker does: only the mark is set."""
    said = StoredOutcome(is_success=True, code=None, reply=b"{}", settlement="")
    return bench.store.cancel(key, holding=Holding(None, "", DAY_MS), answer=lambda _: said)


def hanging(bench: Bench, entered: asyncio.Event, *, calls: int = 1) -> Run:
    """Return a run that makes its calls and then waits for an LM for ever."""

    async def run(one: Job, standing: Standing) -> StoredOutcome:
        bench.begin(standing, calls=calls)
        with bench.inbox.stoppable(standing):
            entered.set()
            await asyncio.Event().wait()
        raise AssertionError

    return run


async def test_a_job_that_was_cancelled_in_its_queue_never_starts(bench: Bench) -> None:
    """However often it is delivered; no row is left, and nothing is stored as its result."""
    await mark(bench)
    for _ in range(2):
        with pytest.raises(CancelledJobError) as refused:
            await bench.inbox.once(job(), bench.succeeding())
        assert refused.value.attempts == 0

    assert bench.runs == 0
    assert await bench.store.get_result("job-1") is None


async def test_a_cancelled_job_is_cancelled_also_past_its_deadline(bench: Bench) -> None:
    """What its owner asked for is what it is told."""
    await mark(bench)
    with pytest.raises(CancelledJobError):
        await bench.inbox.once(job(headers={"x-dspex-deadline": 1}), bench.succeeding())


async def test_a_job_that_runs_is_stopped_by_a_mark_that_another_worker_set(bench: Bench, tmp_path: Path) -> None:
    """Its calls stay counted, and a later delivery answers the same again without running."""
    entered = asyncio.Event()
    running = asyncio.create_task(bench.inbox.once(job(), hanging(bench, entered, calls=2)))
    await entered.wait()
    async with open_store(tmp_path, worker_id="worker-2") as other_store:
        other = Bench(other_store)
        await mark(other)
        await bench.inbox.stop_cancelled()
        with pytest.raises(CancelledJobError) as stopped:
            await running
        with pytest.raises(CancelledJobError) as again:
            await other.inbox.once(job(), other.succeeding())

    claim = await bench.store.claim(Ticket("job-1", job().body_hash))
    assert other.runs == 0
    assert (stopped.value.attempts, again.value.attempts) == (1, 1)
    assert (claim.lm_calls, claim.attempts) == (2, 1)


async def test_a_job_on_the_ladder_is_cancelled_when_it_comes_back(bench: Bench) -> None:
    """Its row keeps what it has cost."""
    await bench.inbox.once(job(), bench.failing(LMUnavailableError("down"), calls=3))
    await mark(bench)
    with pytest.raises(CancelledJobError) as refused:
        await bench.inbox.once(job(), bench.succeeding())

    claim = await bench.store.claim(Ticket("job-1", job().body_hash))
    assert refused.value.attempts == 1
    assert (claim.lm_calls, claim.attempts) == (3, 1)


async def test_what_a_job_has_cost_stays_counted_when_its_caller_goes(bench: Bench) -> None:
    """Nobody is answered, ``get_result`` tells how it ended, and another delivery goes on from there."""
    await bench.inbox.once(job(), bench.failing(LMUnavailableError("down"), calls=3))
    await bench.wait()
    outcome = await bench.inbox.once(job(), bench.failing(CallerGoneError("gone"), calls=0))
    kept = await bench.store.get_result("job-1")

    assert kept is not None
    assert (outcome.reply, outcome.settlement, outcome.code, kept.code) == (None, Ack(), "caller_gone", "caller_gone")
    claim = await bench.store.claim(Ticket("job-1", job().body_hash))
    assert (claim.verdict, claim.lm_calls, claim.attempts) == (Verdict.MINE, 3, 1)


async def test_a_replay_that_is_cancelled_leaves_its_row_free(bench: Bench) -> None:
    """It has a history, so the row stays; nobody holds it."""
    await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad")))
    entered = asyncio.Event()
    running = asyncio.create_task(bench.inbox.once(job(trail=Trail(generation=1)), hanging(bench, entered, calls=0)))
    await entered.wait()
    await mark(bench)
    await bench.inbox.stop_cancelled()
    with pytest.raises(CancelledJobError):
        await running
    claim = await bench.store.claim(Ticket("job-1", job().body_hash, generation=1))

    assert (claim.verdict, claim.attempts, claim.crashes) == (Verdict.MINE, 0, 0)


async def test_a_success_that_is_being_stored_wins_over_a_cancel(bench: Bench) -> None:
    """It was paid for: the job answers with it."""

    async def run(one: Job, standing: Standing) -> StoredOutcome:
        with bench.inbox.stoppable(standing):
            pass
        await mark(bench)
        await bench.inbox.stop_cancelled()
        return await bench.inbox.keep(standing, bench.inbox.success(one, {"by": "me"}))

    outcome = await bench.inbox.once(job(), run)

    assert (outcome.code, json.loads(body_of(outcome))["result"]) == ("ok", {"by": "me"})


async def test_a_stopped_run_loses_to_a_success_of_another(bench: Bench) -> None:
    """The row was taken over, and what was paid for is the answer."""

    async def overtaken(one: Job, standing: Standing) -> StoredOutcome:
        bench.begin(standing, calls=1)
        with bench.inbox.stoppable(standing):
            await mark(bench)
            assert standing.ticket is not None
            winner = bench.inbox.success(one, {"by": "the other"})
            await bench.store.finish(standing.ticket, token="another", outcome=winner, spent=Spent(), ttl_ms=DAY_MS)
            await bench.inbox.stop_cancelled()
            await asyncio.Event().wait()
        raise AssertionError

    outcome = await bench.inbox.once(job(), overtaken)

    assert (outcome.code, json.loads(body_of(outcome))["result"]) == ("ok", {"by": "the other"})


async def test_nothing_is_asked_of_the_store_while_nothing_runs() -> None:
    """The look for marks is free on an idle worker."""
    nothing: Any = None

    await Bench(nothing).inbox.stop_cancelled()


async def test_a_job_without_a_row_runs_as_it_always_did(bench: Bench) -> None:
    """It has no name to cancel it by."""

    async def run(one: Job, standing: Standing) -> StoredOutcome:
        with bench.inbox.stoppable(standing):
            return await bench.inbox.keep(standing, bench.inbox.success(one, {}))

    assert (await bench.inbox.once(job(None, correlation_id=None), run)).code == "ok"


@pytest.mark.parametrize("ids", [{}, {"correlation_id": None}], ids=["with a row", "without"])
async def test_each_run_has_the_flags_of_its_own_claim(bench: Bench, ids: dict[str, Any]) -> None:
    """Set between two jobs, they hold for the second one; a job without a row reads them by itself."""
    said = StoredOutcome(is_success=True, code=None, reply=b"{}", settlement="")
    holding = Holding(None, "", DAY_MS)
    for number, value in enumerate(("off", "force_off")):
        await bench.inbox.once(job(f"job-{number}" if not ids else None, **ids), bench.succeeding())
        await bench.store.set_flag("dynamic_signatures", value, holding=holding, answer=lambda _: said)
    await bench.inbox.once(job("job-2" if not ids else None, **ids), bench.succeeding())

    assert [standing.flags.dynamic_signatures for standing in bench.standings] == ["on", "off", "force_off"]


# Drain, and a store that is down


async def test_a_run_that_the_drain_cut_off_gives_its_claim_back(bench: Bench, tmp_path: Path) -> None:
    """No attempt, no crash, at once free for others."""
    entered = asyncio.Event()

    async def endless(one: Job, standing: Standing) -> StoredOutcome:
        standing.meter.begin()
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    running = asyncio.create_task(bench.inbox.once(job(), endless))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with open_store(tmp_path, worker_id="worker-2") as other_store:
        other = Bench(other_store)
        outcome = await other.inbox.once(job(), other.succeeding())

    assert (outcome.code, other.standings[0].attempts) == ("ok", 0)
    assert other.standings[0].meter.calls_before == 1


@pytest.mark.parametrize("calls", [0, 1], ids=["a hop", "an attempt"])
async def test_a_drain_that_ends_while_a_row_is_put_back_loses_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls: int
) -> None:
    """The attempt was paid for, and its worker did not crash."""
    writing, go_on = asyncio.Event(), asyncio.Event()
    release = bench.store.release

    async def held(*args: Any, **kwargs: Any) -> None:
        writing.set()
        await go_on.wait()
        await release(*args, **kwargs)

    monkeypatch.setattr(bench.store, "release", held)
    running = asyncio.create_task(bench.inbox.once(job(), bench.failing(LMUnavailableError("down"), calls=calls)))
    await writing.wait()
    running.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    await bench.wait()
    async with open_store(tmp_path, worker_id="worker-2") as other:
        claim = await other.claim(Ticket("job-1", job().body_hash))

    assert (claim.verdict, claim.attempts, claim.lm_calls, claim.crashes) == (Verdict.MINE, calls, calls, 0)


async def test_a_drain_that_ends_while_a_row_is_forgotten_leaves_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that cost nothing is no crash."""
    writing, go_on = asyncio.Event(), asyncio.Event()
    forget = bench.store.forget

    async def held(*args: Any, **kwargs: Any) -> None:
        writing.set()
        await go_on.wait()
        await forget(*args, **kwargs)

    monkeypatch.setattr(bench.store, "forget", held)
    running = asyncio.create_task(bench.inbox.once(job(), bench.failing(InvalidInputsError("no"), calls=0)))
    await writing.wait()
    running.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await bench.store.get_state("job-1") is None


class _Unsteady:
    """A store that is down for the first calls of each method."""

    def __init__(self, store: Store, *, failures: int) -> None:
        self._store = store
        self._failures = failures
        self.failed: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        real = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.failed.get(name, 0) < self._failures:
                self.failed[name] = self.failed.get(name, 0) + 1
                raise StoreUnavailableError("down")
            return await real(*args, **kwargs)

        return call


async def test_a_store_that_is_down_holds_the_job_until_it_is_up(store: Store) -> None:
    """Nothing runs unprotected, and nothing that was paid for is lost."""
    unsteady = _Unsteady(store, failures=1)
    bench = Bench(unsteady)  # type: ignore[arg-type]
    outcome = await bench.inbox.once(job(), bench.succeeding())

    assert (outcome.code, bench.runs) == ("ok", 1)
    assert unsteady.failed == {"claim": 1, "finish": 1}


@pytest.mark.parametrize("ids", [{}, {"correlation_id": None}], ids=["with a row", "without"])
async def test_a_store_that_is_down_for_long_gets_no_job_run(store: Store, ids: dict[str, Any]) -> None:
    """The delivery goes back to the broker: another worker's store may answer."""
    bench = Bench(_Unsteady(store, failures=10_000), store_hold_seconds=0.01)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError):
        await bench.inbox.once(job(None if ids else "job-1", **ids), bench.succeeding())

    assert bench.runs == 0


async def test_a_store_that_is_down_does_not_stop_a_cancelled_run(store: Store) -> None:
    """The lease frees the claim."""
    bench = Bench(store)

    async def cancelled(one: Job, standing: Standing) -> StoredOutcome:
        bench.inbox._rows._store = _Unsteady(store, failures=9)  # type: ignore[assignment]
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await bench.inbox.once(job(), cancelled)


async def test_only_a_store_that_is_down_is_asked_again() -> None:
    """Any other fault is somebody's to see."""
    calls = []

    async def broken() -> None:
        calls.append(1)
        raise KeyError

    with pytest.raises(KeyError):
        await steadily(broken)

    assert calls == [1]


async def test_results_live_as_long_as_the_setting_says(store: Store) -> None:
    """In milliseconds."""
    assert Bench(store, max_age_seconds=1, result_ttl_seconds=2).inbox.ttl_ms == 2_000


async def test_an_error_of_a_run_that_was_taken_over_is_not_the_jobs_end(tmp_path: Path) -> None:
    """Another worker has the job by now: no reply, no dead letter, look again later."""
    async with open_left_hand(tmp_path, make_settings()) as hand:
        job = make_job({"args": {"program_id": "p"}}, message_id="m")

        async def run(job: Job, standing: Standing) -> StoredOutcome:
            standing.token = "stale"
            raise LMInvalidRequestError("refused")

        outcome = await hand.inbox.once(job, run)

    assert outcome.reply is None
    assert isinstance(outcome.settlement, Delay)


async def test_a_bug_while_a_job_ends_does_not_keep_its_row(tmp_path: Path) -> None:
    """Otherwise its redeliveries would circle until the process ends."""
    async with open_left_hand(tmp_path, make_settings()) as hand:
        job = make_job({"args": {"program_id": "p"}}, message_id="m")

        async def run(job: Job, standing: Standing) -> StoredOutcome:
            error = LMInvalidRequestError("refused")
            error.retry_after_ms = cast("Any", object())
            raise error

        outcome = await hand.inbox.once(job, run)
        again = await hand.inbox.once(job, run)

    assert outcome.code == "internal"
    assert again.reply is not None
