"""Another run of a job that ended with an error, and when outcomes were stored; on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.store.rows import Hand, OpenStore, failure, finish, success, ticket
from worker.store import Claim, Spent, Store, StoredOutcome, Ticket, Verdict


def rerun_of(generation: int, **changes: Any) -> Ticket:
    """Make the ticket of a rerun, which is of the generation after it."""
    return ticket(generation=generation + 1, is_rerun=True, **changes)


async def run(store: Store, of: Ticket, *, outcome: StoredOutcome, cost_usd: float | None = 0.5) -> Claim:
    """Claim a job and end it, at the price of three calls."""
    claim = await store.claim(of)
    assert claim.verdict is Verdict.MINE
    await finish(store, of, token=claim.token, outcome=outcome, spent=Spent(lm_calls=3, cost_usd=cost_usd))
    return claim


async def test_a_failed_job_runs_at_the_next_generation_and_its_costs_count_on(store: Store) -> None:
    """Done(error) → rerun of this generation → running at the next one."""
    first = await run(store, ticket(), outcome=failure())
    await store.release(ticket(), token=first.token, spent=Spent(), is_attempt=True)
    again = await store.claim(rerun_of(0))

    assert (again.verdict, again.generation, again.attempts) == (Verdict.MINE, 1, 0)
    assert again.first_seen_ms == again.now_ms >= first.now_ms

    assert (again.lm_calls, again.cost_usd, again.unpriced_lm_calls) == (3, 0.5, 0)


async def test_calls_that_dead_workers_took_along_count_on_at_unknown_cost(
    open_store: OpenStore, store: Store, hand: Hand
) -> None:
    """Their counts begin at 0, so what they stand for is added to the calls."""
    await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    stopped = await open_store(worker_id="stopped")
    await stopped.claim(ticket())
    await stopped.note_stop()
    await stopped.close()
    before = await run(store, ticket(), outcome=failure())
    again = await store.claim(rerun_of(0))

    assert (before.crashes, before.stops) == (1, 1)
    assert (again.crashes, again.stops) == (0, 0)

    assert (again.lm_calls, again.unpriced_lm_calls) == (5, 2)


async def test_the_same_request_again_is_of_the_same_generation(store: Store, other: Store) -> None:
    """Whether it runs here, runs elsewhere, waits, or has ended, with a success or an error."""
    await run(store, ticket(), outcome=failure())
    claim = await store.claim(rerun_of(0))
    here, elsewhere = await store.claim(rerun_of(0)), await other.claim(rerun_of(0))
    await store.release(rerun_of(0), token=claim.token, spent=Spent(), is_attempt=True)
    waited = await run(store, rerun_of(0), outcome=failure(b"second"))
    ended = await store.claim(rerun_of(0))

    assert (here.verdict, elsewhere.verdict) == (Verdict.HERE, Verdict.ELSEWHERE)
    assert (waited.verdict, waited.generation, waited.attempts) == (Verdict.MINE, 1, 1)
    assert ended.stored is not None

    assert (ended.verdict, ended.generation, ended.stored.reply) == (Verdict.STORED, 1, b"second")


async def test_a_success_is_not_run_again(store: Store) -> None:
    """Done(success) → rerun → unchanged: STORED."""
    await run(store, ticket(), outcome=success())
    again = await store.claim(rerun_of(0))

    assert (again.verdict, again.generation) == (Verdict.STORED, 0)


async def test_a_generation_that_still_runs_or_waits_is_left_as_it_is(store: Store, other: Store) -> None:
    """As without the header: the run elsewhere is waited for, and one that waits is claimed, of its own generation."""
    claim = await store.claim(ticket())
    elsewhere, here = await other.claim(rerun_of(0)), await store.claim(rerun_of(0))
    await store.release(ticket(), token=claim.token, spent=Spent(lm_calls=1), is_attempt=True)
    waiting = await store.claim(rerun_of(0))

    assert (elsewhere.verdict, here.verdict) == (Verdict.ELSEWHERE, Verdict.HERE)

    assert (waiting.verdict, waiting.generation, waiting.attempts) == (Verdict.MINE, 0, 1)


async def test_a_rerun_that_crashes_is_taken_over_at_its_generation(store: Store, hand: Hand) -> None:
    """The request is delivered again, and finds a dead owner."""
    await run(store, ticket(), outcome=failure())
    await store.claim(rerun_of(0))
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    again = await store.claim(rerun_of(0))

    assert (again.verdict, again.generation, again.crashes, again.lm_calls) == (Verdict.MINE, 1, 1, 3)


async def test_a_rerun_of_a_later_generation_changes_nothing(store: Store, hand: Hand) -> None:
    """Any → rerun of a later generation → unchanged: AHEAD."""
    await run(store, ticket(), outcome=failure())
    before = await hand.job("job")
    ahead = await store.claim(rerun_of(1))

    assert (ahead.verdict, ahead.generation, ahead.token) == (Verdict.AHEAD, 0, "")
    assert before == await hand.job("job")


async def test_a_rerun_of_an_earlier_generation_is_told_how_the_last_one_ended(store: Store) -> None:
    """Somebody else has run it again meanwhile."""
    for number in range(3):
        await run(store, ticket() if number == 0 else rerun_of(number - 1), outcome=failure(b"%d" % number))
    again = await store.claim(rerun_of(0))

    assert again.stored is not None
    assert (again.verdict, again.generation, again.stored.reply) == (Verdict.STORED, 2, b"2")


async def test_a_rerun_has_the_content_of_the_job(store: Store) -> None:
    """Unlike a replay, which an operator may patch."""
    await run(store, ticket(), outcome=failure())
    other = await store.claim(rerun_of(0, body_hash="other"))

    assert other.verdict is Verdict.CONFLICT


async def test_a_rerun_of_a_job_that_is_forgotten_runs_as_new(store: Store) -> None:
    """Its row is past its lifetime; the generation is the one that was asked for."""
    claim = await store.claim(rerun_of(4))

    assert (claim.verdict, claim.generation, claim.lm_calls) == (Verdict.MINE, 5, 0)


@pytest.mark.parametrize("is_replay_first", [True, False])
async def test_a_replay_and_a_rerun_of_one_generation_are_one_run(
    store: Store, other: Store, is_replay_first: bool
) -> None:
    """An operator and the caller at the same time; later, the letter's replay finds how it ended."""
    await run(store, ticket(), outcome=failure())
    tickets = [ticket(generation=1), rerun_of(0)]
    first, second = tickets if is_replay_first else tickets[::-1]
    claim = await store.claim(first)
    meanwhile = await other.claim(second)
    await finish(store, first, token=claim.token, outcome=success())
    later = await other.claim(second)

    assert (claim.generation, meanwhile.verdict) == (1, Verdict.ELSEWHERE)
    assert (later.verdict, later.generation) == (Verdict.STORED, 1)


async def test_a_rerun_by_another_tenant_is_another_job(store: Store) -> None:
    """The key is the tenant's own."""
    await run(store, ticket(tenant="a"), outcome=failure())
    claim = await store.claim(rerun_of(0, tenant="b"))

    assert (claim.verdict, claim.lm_calls) == (Verdict.MINE, 0)


async def test_an_outcome_says_when_it_was_stored(store: Store) -> None:
    """By the store's clock; the finish itself says nothing, for its reply is a fresh one."""
    claim = await store.claim(ticket())
    fresh = await finish(store, ticket(), token=claim.token, outcome=failure())
    stored = (await store.claim(ticket())).stored
    kept = await store.get_result("job")

    assert fresh.stored_ms is None
    assert stored is not None
    assert stored.stored_ms is not None
    assert kept is not None
    assert kept.stored_ms == stored.stored_ms

    assert claim.now_ms <= stored.stored_ms <= claim.now_ms + 5_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("stored_ms = NULL, settled_ms = claimed_ms + 7", 7),
        ("stored_ms = NULL, settled_ms = NULL", 0),
        ("stored_ms = claimed_ms - 60000, settled_ms = NULL", 0),
    ],
)
async def test_an_outcome_that_an_older_worker_stored_says_what_is_known(
    store: Store, hand: Hand, change: str, expected: int
) -> None:
    """It leaves the column empty, or as an earlier generation left it."""
    await run(store, ticket(), outcome=failure())
    await hand.execute(f"UPDATE jobs SET {change}")
    row = await hand.job("job")
    kept = await store.get_result("job")

    assert row is not None
    assert kept is not None
    assert kept.stored_ms == row["claimed_ms"] + expected
