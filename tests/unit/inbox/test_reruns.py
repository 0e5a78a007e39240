"""A caller that has seen its job fail asks for another run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.inbox_bench import Bench, body_of, job
from tests.support.left_hand import make_job, open_store
from tests.support.replies import unmarked
from worker.errors import (
    CancelledJobError,
    IdempotencyConflictError,
    InvalidRequestError,
    LMUnavailableError,
    OutputInvalidError,
)
from worker.message import Ack, DeadLetter, Delay, Job, Trail
from worker.standing import Standing
from worker.store import Holding, StoredOutcome

DAY_MS = 86_400_000


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_store(tmp_path) as store:
        yield Bench(store)


def rerun(generation: int = 0, **properties: Any) -> Job:
    """Return the job as its caller sends it again after the reply of a generation."""
    headers = {"x-dspex-rerun": generation}
    given = {"trail": Trail(generation=generation + 1), "headers": headers, "is_rerun": True, **properties}
    return job(**given)


async def fail(bench: Bench, one: Job) -> None:
    outcome = await bench.inbox.once(one, bench.failing(OutputInvalidError("bad")))
    assert isinstance(outcome.settlement, DeadLetter)
    assert outcome.on_settled is not None
    await outcome.on_settled()


async def test_a_rerun_is_answered_under_an_id_of_its_own(bench: Bench) -> None:
    """So whoever drops what is answered already does not drop it; and it is no stored reply."""
    first = await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad")))
    again = await bench.inbox.once(rerun(), bench.succeeding())

    assert first.reply is not None
    assert again.reply is not None
    assert again.reply.message_id != first.reply.message_id
    assert "x-dspex-stored" not in again.reply.headers

    assert (again.code, again.reply.headers["x-dspex-generation"], again.settlement) == ("ok", 1, Ack())


async def test_a_rerun_that_is_delivered_again_repeats_its_reply(bench: Bench) -> None:
    """Marked, and nothing runs; the plain request gets it as well."""
    await fail(bench, job())
    first = await bench.inbox.once(rerun(), bench.succeeding())
    repeated = [await bench.inbox.once(one, bench.succeeding()) for one in (rerun(), job())]

    assert [unmarked(one.reply) for one in repeated] == [first.reply, first.reply]
    assert bench.runs == 2


async def test_a_rerun_that_fails_leaves_a_dead_letter_once(bench: Bench) -> None:
    """It is noted of its own generation; its caller may ask for the next one."""
    await fail(bench, job())
    await fail(bench, rerun())
    repeated = await bench.inbox.once(rerun(), bench.succeeding())
    third = await bench.inbox.once(rerun(1), bench.succeeding())

    assert (repeated.code, repeated.settlement) == ("output_invalid", Ack())
    assert third.reply is not None
    assert (third.code, third.reply.headers["x-dspex-generation"]) == ("ok", 2)


async def test_a_rerun_stays_within_the_budget_of_the_job(tmp_path: Path) -> None:
    """Attempts begin anew, LM calls count on."""
    async with open_store(tmp_path) as store:
        bench = Bench(store, max_lm_calls=3)
        await bench.inbox.once(job(), bench.failing(OutputInvalidError("bad"), calls=2))
        outcome = await bench.inbox.once(rerun(), bench.succeeding(calls=2))

    detail = json.loads(body_of(outcome))["error_detail"]

    assert (detail["code"], detail["attempts"]) == ("budget_exceeded", 1)


async def test_a_rerun_that_is_delayed_comes_back_as_the_same_generation(bench: Bench) -> None:
    """Its copy carries the generation, and the header beside it says no more."""
    await fail(bench, job())
    delayed = await bench.inbox.once(rerun(), bench.failing(LMUnavailableError("down")))
    await bench.wait()
    assert isinstance(delayed.settlement, Delay)
    back = await bench.inbox.once(rerun(trail=delayed.settlement.trail), bench.succeeding())

    assert delayed.settlement.trail.generation == 1
    assert back.reply is not None
    assert (back.code, back.reply.headers["x-dspex-generation"]) == ("ok", 1)


async def test_a_rerun_of_what_still_waits_is_run_as_that(bench: Bench) -> None:
    """And answered under its generation."""
    await bench.inbox.once(job(), bench.failing(LMUnavailableError("down")))
    await bench.wait()
    outcome = await bench.inbox.once(rerun(), bench.succeeding())

    assert outcome.reply is not None
    assert (outcome.code, outcome.reply.headers["x-dspex-generation"]) == ("ok", 0)


async def test_a_rerun_of_a_later_generation_is_refused_with_both_numbers(bench: Bench) -> None:
    """The caller has mixed up two jobs, or made the number up."""
    await fail(bench, job())
    with pytest.raises(InvalidRequestError, match="after generation 7, and the job is only at generation 0"):
        await bench.inbox.once(rerun(7), bench.succeeding())

    assert bench.runs == 1


async def test_a_rerun_with_other_content_is_a_conflict(bench: Bench) -> None:
    """As without the header."""
    await fail(bench, job())
    with pytest.raises(IdempotencyConflictError):
        await bench.inbox.once(rerun(number=2), bench.succeeding())


async def test_a_rerun_of_a_job_that_was_cancelled_is_cancelled(bench: Bench) -> None:
    """Its cancel mark holds for every later delivery."""
    await fail(bench, job())
    said = StoredOutcome(is_success=True, code=None, reply=b"{}", settlement="")
    await bench.inbox.once(rerun(), bench.failing(LMUnavailableError("down")))
    await bench.store.cancel("job-1", holding=Holding(None, "", DAY_MS), answer=lambda _: said)
    with pytest.raises(CancelledJobError):
        await bench.inbox.once(rerun(), bench.succeeding())


async def test_a_job_without_a_message_id_is_run_again_under_its_derived_key(bench: Bench) -> None:
    """Correlation id, reply queue and content name it."""
    await fail(bench, job(None))
    outcome = await bench.inbox.once(rerun(key=None), bench.succeeding())

    assert (outcome.code, bench.runs) == ("ok", 2)


async def test_a_rerun_ends_within_its_own_deadline_and_age(bench: Bench) -> None:
    """The clock of the failed run is over."""
    await fail(bench, job(headers={"x-dspex-deadline": bench.clock.now_ms + 1_000}))
    bench.clock.now_ms += 5_000_000
    seen: list[Standing] = []

    async def look(one: Job, standing: Standing) -> StoredOutcome:
        seen.append(standing)
        return await bench.succeeding()(one, standing)

    outcome = await bench.inbox.once(rerun(), look)

    assert (outcome.code, seen[0].meter.deadline_ms, seen[0].attempts) == ("ok", None, 0)


@pytest.mark.parametrize("generation", [-1, 1.0, "0", True, None, 1_000_001])
def test_a_generation_that_is_none_is_refused(generation: object) -> None:
    """With what it should be; a forgotten job must not be given any number there is."""
    with pytest.raises(InvalidRequestError, match="a whole number from 0 to 1,000,000") as refusal:
        make_job({"args": {}}, headers={"x-dspex-rerun": generation})

    assert refusal.value.field == "x-dspex-rerun"


def test_a_rerun_of_a_job_without_any_id_is_refused() -> None:
    """Nothing names the job that failed."""
    with pytest.raises(InvalidRequestError, match="needs the message_id"):
        make_job({"args": {}}, message_id=None, correlation_id=None, headers={"x-dspex-rerun": 0})
