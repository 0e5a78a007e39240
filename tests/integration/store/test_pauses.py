"""A job that waits for its next try is not run before its time, however it is delivered; on both engines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.store.rows import TTL_MS, Hand, finish, success, ticket
from worker.store import Cancellation, Claim, CorruptRowError, Holding, Spent, Store, StoredOutcome, Ticket, Verdict

_LONG_MS = 60_000
on_sqlite = pytest.mark.parametrize("engine_url", ["sqlite"], indirect=True)


async def put_off(store: Store, *, pause_ms: int | None = _LONG_MS, of: Ticket | None = None) -> Claim:
    """Claim a job and release it with a pause; return the claim."""
    claim = await store.claim(of or ticket())
    spent = Spent(lm_calls=1, cost_usd=0.5)
    await store.release(of or ticket(), token=claim.token, spent=spent, is_attempt=True, pause_ms=pause_ms)
    return claim


async def test_a_delivery_that_comes_before_its_time_takes_a_ladder_step(
    store: Store, other: Store, hand: Hand
) -> None:
    """Waiting, its time is to come → claim → unchanged, for the worker that has put it off and for others."""
    await put_off(store)
    before = await hand.job("job")

    verdicts = [(await worker.claim(ticket())).verdict for worker in (store, other, store)]

    assert verdicts == [Verdict.ELSEWHERE] * 3
    assert before == await hand.job("job")


async def test_the_time_comes_by_the_stores_clock(store: Store, other: Store, hand: Hand) -> None:
    """Waiting → claim → running, no moment too early, with what was counted before."""
    await put_off(store, pause_ms=300)
    due_ms = await time_of(hand)
    early_ms = []
    while (claim := await other.claim(ticket())).verdict is Verdict.ELSEWHERE:
        early_ms.append(claim.now_ms)

    assert max(early_ms, default=0) < due_ms <= claim.now_ms
    assert (claim.verdict, claim.attempts, claim.lm_calls, claim.cost_usd) == (Verdict.MINE, 1, 1, 0.5)


@pytest.mark.parametrize(
    ("left_ms", "verdict"), [(60_000, Verdict.ELSEWHERE), (0, Verdict.MINE), (-60_000, Verdict.MINE)]
)
async def test_only_a_time_to_come_is_waited_for(store: Store, hand: Hand, left_ms: int, verdict: Verdict) -> None:
    """A job that is due, or long overdue, is anybody's."""
    await put_off(store)
    now_ms = (await store.claim(ticket("clock"))).now_ms
    await hand.execute(f"UPDATE jobs SET not_before_ms = {now_ms + left_ms} WHERE job_key = 'job'")

    claim = await store.claim(ticket())

    assert claim.verdict is verdict


async def test_a_claim_clears_the_time_and_a_release_without_a_pause_sets_none(store: Store, hand: Hand) -> None:
    """What the run of before had to wait for is no matter of the next one."""
    await put_off(store, pause_ms=0)
    times = [await time_of(hand)]
    claim = await store.claim(ticket())
    times.append(await time_of(hand))
    await hand.execute("UPDATE jobs SET not_before_ms = 9000000000000")
    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=False)
    times.append(await time_of(hand))

    assert times[0] == pytest.approx(claim.now_ms, abs=5_000)
    assert times[1:] == [None, None]
    assert (await store.claim(ticket())).verdict is Verdict.MINE


async def time_of(hand: Hand) -> Any:
    """Return when the job may be claimed."""
    row = await hand.job("job")
    assert row is not None
    return row["not_before_ms"]


async def test_a_stale_token_puts_nothing_off(store: Store, other: Store, hand: Hand) -> None:
    """A worker that was taken for dead has no say any more."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    second = await other.claim(ticket())
    await store.release(ticket(), token=first.token, spent=Spent(), is_attempt=True, pause_ms=_LONG_MS)
    await other.release(ticket(), token=second.token, spent=Spent(), is_attempt=False)

    assert (await store.claim(ticket())).verdict is Verdict.MINE


async def test_a_replay_does_not_wait_for_the_time(store: Store, hand: Hand) -> None:
    """A higher generation begins anew, with other content too, and what it puts off is its own."""
    await put_off(store)

    replay = await store.claim(ticket(generation=1, body_hash="patched"))

    assert (replay.verdict, replay.attempts, replay.lm_calls) == (Verdict.MINE, 0, 0)
    assert await time_of(hand) is None


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        (ticket(generation=1, body_hash="other"), Verdict.CONFLICT),
        (ticket(generation=0), Verdict.ELSEWHERE),
        (ticket(generation=0, body_hash="other"), Verdict.ELSEWHERE),
    ],
)
async def test_who_has_no_claim_anyway_is_told_the_same_while_the_job_is_put_off(
    store: Store, of: Ticket, verdict: Verdict
) -> None:
    """Other content is a conflict, a lower generation a step of the ladder."""
    await put_off(store, of=ticket(generation=1))

    claim = await store.claim(of)

    assert claim.verdict is verdict


async def test_a_success_that_comes_late_is_stored_before_the_time(store: Store, other: Store) -> None:
    """It was paid for; whoever is delivered then repeats it."""
    claim = await put_off(store)

    await finish(other, ticket(), token=claim.token, outcome=success())

    assert (await store.claim(ticket())).stored == success()


async def test_a_job_that_is_put_off_waits_and_has_no_result(store: Store) -> None:
    """As its caller is told."""
    await put_off(store)

    assert (await store.get_state("job"), await store.get_result("job")) == ("waiting", None)


async def test_a_cancelled_job_need_not_wait(store: Store) -> None:
    """Its next delivery says that it was cancelled, and calls no LM."""
    await put_off(store)
    found: list[Cancellation] = []

    def answer(cancellation: Cancellation) -> StoredOutcome:
        found.append(cancellation)
        return success()

    await store.cancel("job", holding=Holding(None, "", TTL_MS), answer=answer)
    claim = await store.claim(ticket())

    assert found == [Cancellation.CANCELLED]
    assert (claim.verdict, claim.is_cancelled, claim.attempts) == (Verdict.MINE, True, 1)


async def test_a_job_that_is_put_off_is_swept_when_it_was_untouched_for_too_long(store: Store, hand: Hand) -> None:
    """Its message may be lost; the row must not stay for ever."""
    await put_off(store)
    await hand.age("job")

    assert await store.sweep() == 1


@on_sqlite
async def test_a_time_that_is_no_number_is_found_at_the_claim(store: Store, hand: Hand) -> None:
    """Nobody could ever claim the job, and it would go round the ladder for ever."""
    await put_off(store)
    await hand.execute("UPDATE jobs SET not_before_ms = 'soon'")

    with pytest.raises(CorruptRowError):
        await store.claim(ticket())
