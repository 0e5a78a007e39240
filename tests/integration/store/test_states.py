"""Each row of the inbox's state table, on both engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.store.rows import Hand, failure, finish, success, ticket
from worker.store import Spent, Store, StoredOutcome, Verdict


async def test_new_job_is_mine(store: Store, hand: Hand) -> None:
    """– → claim → running."""
    claim = await store.claim(ticket())

    row = await hand.job("job")
    assert row is not None
    assert (claim.verdict, row["state"], claim.attempts, claim.crashes) == (Verdict.MINE, "running", 0, 0)
    assert row["claim_token"] == claim.token != ""
    assert claim.first_seen_ms == pytest.approx(claim.now_ms, abs=1000)
    assert (claim.lm_calls, claim.cost_usd, claim.stored, claim.program) == (0, None, None, None)


async def test_job_of_a_dead_owner_is_taken_over_and_counted_as_a_crash(store: Store, hand: Hand) -> None:
    """Running, owner dead → claim → running, crashes + 1."""
    await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)

    claim = await store.claim(ticket())

    assert (claim.verdict, claim.crashes, claim.attempts) == (Verdict.MINE, 1, 0)


async def test_running_job_of_this_process_is_left_alone(store: Store, hand: Hand) -> None:
    """Running, owner is this process → claim → unchanged."""
    await store.claim(ticket())
    before = await hand.job("job")

    claim = await store.claim(ticket())

    assert (claim.verdict, claim.token) == (Verdict.HERE, "")
    assert before == await hand.job("job")


async def test_another_generation_does_not_join_the_run_of_this_process(store: Store) -> None:
    """It waits for its own turn: the run that it would join answers another question."""
    await store.claim(ticket(generation=1))

    verdicts = [(await store.claim(ticket(generation=number))).verdict for number in (0, 1, 2)]

    assert verdicts == [Verdict.ELSEWHERE, Verdict.HERE, Verdict.ELSEWHERE]


async def test_a_job_that_crashed_three_times_can_be_claimed_and_finished(store: Store, hand: Hand) -> None:
    """The row counts on; what to do with a job that kills is decided by who claims it."""
    crashes = []
    for _ in range(4):
        claim = await store.claim(ticket())
        crashes.append(claim.crashes)
        await hand.execute("DELETE FROM workers WHERE worker_id = 'ghost'")
        await hand.give_to_ghost("job", seen_ms_ago=11_000)
    last = await store.claim(ticket())

    stored = await finish(store, ticket(), token=last.token, outcome=failure())

    assert ([*crashes, last.crashes], stored) == ([0, 1, 2, 3, 4], failure())


async def test_a_release_keeps_the_crashes(store: Store, hand: Hand) -> None:
    """A job that is put off until it can run alone must not look harmless again."""
    await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    claim = await store.claim(ticket())

    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=False)
    again = await store.claim(ticket())

    assert (claim.crashes, again.crashes) == (1, 1)


async def test_running_job_of_a_living_owner_is_left_alone(store: Store, hand: Hand) -> None:
    """Running, owner alive elsewhere → claim → unchanged."""
    await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=9_000)
    before = await hand.job("job")

    claim = await store.claim(ticket())

    assert claim.verdict is Verdict.ELSEWHERE
    assert before == await hand.job("job")


async def test_success_is_stored(store: Store, hand: Hand) -> None:
    """Running → success → done(success)."""
    claim = await store.claim(ticket())

    stored = await finish(store, ticket(), token=claim.token, outcome=success())

    assert success() == stored
    assert success() == await store.get_result("job")


async def test_success_is_stored_under_a_stale_token(store: Store, other: Store, hand: Hand) -> None:
    """Running → success, whoever holds the claim; the later one sends the stored bytes."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    second = await other.claim(ticket())

    stored = await finish(store, ticket(), token=first.token, outcome=success(b"first"))
    later = await finish(other, ticket(), token=second.token, outcome=success(b"second"))

    assert success(b"first") == stored
    assert success(b"first") == later


async def test_success_of_a_waiting_job_is_stored(store: Store) -> None:
    """A run that was given up too early still pays."""
    claim = await store.claim(ticket())
    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=False)

    await finish(store, ticket(), token=claim.token, outcome=success())

    assert (await store.claim(ticket())).stored == success()


@pytest.mark.parametrize("generation", [0, 1])
async def test_success_of_a_job_whose_row_is_gone_is_stored(store: Store, hand: Hand, generation: int) -> None:
    """Another worker took the job over and refused it at no cost: what the first one paid for is kept all the same."""
    of = ticket(generation=generation)
    claim = await store.claim(of)
    await hand.execute("DELETE FROM jobs")

    stored = await finish(store, of, token=claim.token, outcome=success(), spent=Spent(lm_calls=2, cost_usd=0.5))
    again = await store.claim(of)
    late = await finish(store, of, token="another", outcome=success(b"later"))

    assert (again.verdict, again.stored, again.lm_calls, again.cost_usd) == (Verdict.STORED, stored, 2, 0.5)
    assert (stored, late) == (replace(success(), generation=generation), stored)


async def test_a_job_that_nobody_waited_for_can_be_claimed_again(store: Store, other: Store) -> None:
    """Done(error, caller_gone) → claim → running; what it did cost stays counted."""
    claim = await store.claim(ticket())
    gone = StoredOutcome(is_success=False, code="caller_gone", reply=b"gone", settlement="")
    await finish(store, ticket(), token=claim.token, outcome=gone, spent=Spent(lm_calls=2, cost_usd=0.5))
    kept = await store.get_result("job")
    again = await other.claim(ticket())

    assert gone == kept
    assert (again.verdict, again.lm_calls, again.cost_usd, again.crashes) == (Verdict.MINE, 2, 0.5, 0)


async def test_a_late_success_wins_over_a_caller_that_is_gone(store: Store, other: Store, hand: Hand) -> None:
    """Paid work is never thrown away."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    second = await other.claim(ticket())
    gone = StoredOutcome(is_success=False, code="caller_gone", reply=b"gone", settlement="")
    await finish(other, ticket(), token=second.token, outcome=gone)

    stored = await finish(store, ticket(), token=first.token, outcome=success())

    assert (stored, await store.get_result("job")) == (success(), success())


async def test_error_is_stored_under_its_own_token(store: Store) -> None:
    """Running → final error → done(error)."""
    claim = await store.claim(ticket())

    stored = await finish(store, ticket(), token=claim.token, outcome=failure())

    assert failure() == stored
    assert failure() == await store.get_result("job")


async def test_error_under_a_stale_token_stores_nothing(store: Store, other: Store, hand: Hand) -> None:
    """An error needs the current attempt; without it the caller learns that it is not stored."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    await other.claim(ticket())
    before = await hand.job("job")

    stored = await finish(store, ticket(), token=first.token, outcome=failure())

    assert replace(failure(), is_stored=False) == stored
    assert before == await hand.job("job")


async def test_late_error_returns_the_success_that_was_stored(store: Store, other: Store, hand: Hand) -> None:
    """The loser publishes the stored bytes."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    second = await other.claim(ticket())
    await finish(other, ticket(), token=second.token, outcome=success())

    stored = await finish(store, ticket(), token=first.token, outcome=failure())

    assert success() == stored


async def test_success_after_a_final_error_does_not_replace_it(store: Store, other: Store, hand: Hand) -> None:
    """Done stays done within a generation: its reply may be out already."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    second = await other.claim(ticket())
    await finish(other, ticket(), token=second.token, outcome=failure())

    stored = await finish(store, ticket(), token=first.token, outcome=success())

    assert failure() == stored


async def test_free_refusal_leaves_no_row(store: Store, hand: Hand) -> None:
    """Running → free refusal at generation 0 with no attempts → row deleted."""
    claim = await store.claim(ticket())

    await store.forget(ticket(), token=claim.token)

    assert await hand.job("job") is None


@pytest.mark.parametrize("history", ["attempt", "replay"])
async def test_free_refusal_of_a_job_with_a_history_keeps_the_row(store: Store, hand: Hand, history: str) -> None:
    """… otherwise it is left for finish."""
    of = ticket(generation=1 if history == "replay" else 0)
    if history == "attempt":
        earlier = await store.claim(of)
        await store.release(of, token=earlier.token, spent=Spent(lm_calls=1), is_attempt=True)
    claim = await store.claim(of)

    await store.forget(of, token=claim.token)
    row = await hand.job("job")
    stored = await finish(store, of, token=claim.token, outcome=failure())

    assert row is not None
    assert row["state"] == "running"
    assert (stored.reply, stored.generation) == (b"error", of.generation)


async def test_stale_token_forgets_nothing(store: Store, hand: Hand) -> None:
    """Only the claim that refused the job may delete its row."""
    await store.claim(ticket())

    await store.forget(ticket(), token="stale")

    assert await hand.job("job") is not None


async def test_passing_trouble_lets_the_job_wait_and_counts_the_attempt(store: Store, other: Store) -> None:
    """Running → LM trouble that may pass → waiting, attempts + 1; then anybody may claim."""
    claim = await store.claim(ticket())

    await store.release(ticket(), token=claim.token, spent=Spent(lm_calls=2), is_attempt=True)
    again = await other.claim(ticket())

    assert (again.verdict, again.attempts, again.crashes, again.lm_calls) == (Verdict.MINE, 1, 0, 2)
    assert again.first_seen_ms == claim.first_seen_ms


async def test_drain_lets_the_job_wait_without_an_attempt_or_a_crash(store: Store, other: Store) -> None:
    """Running → drain ran out → waiting; waiting → claim → running."""
    claim = await store.claim(ticket())

    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=False)
    again = await other.claim(ticket())

    assert (again.verdict, again.attempts, again.crashes) == (Verdict.MINE, 0, 0)


async def test_stale_token_releases_nothing(store: Store, hand: Hand) -> None:
    """A run that lost its row must not hand it to a third."""
    await store.claim(ticket())
    before = await hand.job("job")

    await store.release(ticket(), token="stale", spent=Spent(lm_calls=1), is_attempt=True)

    assert before == await hand.job("job")


@pytest.mark.parametrize("outcome", [success(), failure()])
async def test_done_job_answers_from_the_store(store: Store, other: Store, outcome: object) -> None:
    """Done, same generation and content → the stored reply again."""
    claim = await store.claim(ticket())
    await store.finish(ticket(), token=claim.token, outcome=outcome, spent=Spent(), ttl_ms=1000)  # type: ignore[arg-type]

    again = await other.claim(ticket())

    assert (again.verdict, again.token) == (Verdict.STORED, "")
    assert again.stored == outcome


async def test_settlement_is_marked_once_it_was_carried_out(store: Store) -> None:
    """The stored settlement holds only until it was confirmed once."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=failure())

    await store.mark_settled(ticket())
    stored = (await store.claim(ticket())).stored

    assert stored is not None
    assert stored.is_settled


async def test_settlement_of_another_generation_marks_nothing(store: Store) -> None:
    """A late copy of generation 0 says nothing about the dead letter of generation 1."""
    claim = await store.claim(ticket(generation=1))
    await finish(store, ticket(generation=1), token=claim.token, outcome=failure())

    await store.mark_settled(ticket(generation=0))
    stored = await store.get_result("job")

    assert stored is not None
    assert not stored.is_settled


async def test_replay_runs_a_failed_job_again_with_counters_at_zero(store: Store, hand: Hand) -> None:
    """done(error) → higher generation → running, counters 0, new hash."""
    first = await store.claim(ticket())
    await store.release(ticket(), token=first.token, spent=Spent(lm_calls=3, cost_usd=0.5), is_attempt=True)
    second = await store.claim(ticket())
    await finish(store, ticket(), token=second.token, outcome=failure())
    await store.mark_settled(ticket())

    replay = await store.claim(ticket(generation=1, body_hash="patched"))
    row = await hand.job("job")
    stored = await finish(
        store, ticket(generation=1, body_hash="patched"), token=replay.token, outcome=success(), spent=Spent(lm_calls=1)
    )

    assert (replay.verdict, replay.attempts, replay.crashes) == (Verdict.MINE, 0, 0)
    assert (replay.lm_calls, replay.unpriced_lm_calls, replay.cost_usd) == (0, 0, None)
    assert row is not None
    assert {row[name] for name in ("outcome", "code", "reply", "settlement", "settled_ms")} == {None}
    assert row["body_hash"] == "patched"
    assert (stored.generation, stored.is_settled) == (1, False)


async def test_replay_of_a_success_is_answered_from_the_store(store: Store, hand: Hand) -> None:
    """done(success) → higher generation → the stored reply again."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=success())
    before = await hand.job("job")

    replay = await store.claim(ticket(generation=1, body_hash="patched"))

    assert (replay.verdict, replay.stored) == (Verdict.STORED, success())
    assert before == await hand.job("job")


async def test_replay_waits_for_a_run_that_lives(store: Store) -> None:
    """A higher generation takes no row from a living owner."""
    await store.claim(ticket())

    replay = await store.claim(ticket(generation=1))

    assert replay.verdict is Verdict.ELSEWHERE


@pytest.mark.parametrize("state", ["waiting", "orphaned"])
async def test_replay_takes_an_idle_row_with_counters_at_zero(store: Store, hand: Hand, state: str) -> None:
    """A dead letter made by the broker leaves its row behind; the replay goes on with it as a new generation."""
    claim = await store.claim(ticket())
    if state == "waiting":
        await store.release(ticket(), token=claim.token, spent=Spent(lm_calls=1), is_attempt=True)
    else:
        await hand.give_to_ghost("job", seen_ms_ago=11_000)

    replay = await store.claim(ticket(generation=1, body_hash="patched"))

    assert (replay.verdict, replay.attempts, replay.crashes, replay.lm_calls) == (Verdict.MINE, 0, 0, 0)


@pytest.mark.parametrize("body_hash", ["hash", "other"])
async def test_lower_generation_of_a_done_job_gets_the_stored_reply(store: Store, body_hash: str) -> None:
    """Any → lower generation → unchanged; checked before the hash."""
    claim = await store.claim(ticket(generation=1))
    await finish(store, ticket(generation=1), token=claim.token, outcome=failure())

    late = await store.claim(ticket(generation=0, body_hash=body_hash))

    assert late.verdict is Verdict.STORED
    assert late.stored is not None
    assert late.stored.generation == 1


@pytest.mark.parametrize("state", ["running", "waiting"])
async def test_lower_generation_of_an_open_job_takes_a_ladder_step(store: Store, state: str) -> None:
    """… else the shortest step, also where the row waits."""
    claim = await store.claim(ticket(generation=1))
    if state == "waiting":
        await store.release(ticket(generation=1), token=claim.token, spent=Spent(), is_attempt=False)

    late = await store.claim(ticket(generation=0))

    assert late.verdict is Verdict.ELSEWHERE


@pytest.mark.parametrize("state", ["running", "waiting", "orphaned", "success", "error"])
async def test_other_content_under_the_same_key_is_a_conflict(store: Store, hand: Hand, state: str) -> None:
    """Any → same generation, other content → unchanged."""
    claim = await store.claim(ticket())
    if state == "waiting":
        await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=False)
    elif state == "orphaned":
        await hand.give_to_ghost("job", seen_ms_ago=11_000)
    elif state != "running":
        outcome = success() if state == "success" else failure()
        await finish(store, ticket(), token=claim.token, outcome=outcome)
    before = await hand.job("job")

    other = await store.claim(ticket(body_hash="other"))

    assert (other.verdict, other.stored) == (Verdict.CONFLICT, None)
    assert before == await hand.job("job")


async def test_success_of_other_content_is_not_stored(store: Store, hand: Hand) -> None:
    """A run of the unpatched job does not answer for the patched one."""
    first = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    await store.claim(ticket(generation=1, body_hash="patched"))

    stored = await finish(store, ticket(), token=first.token, outcome=success())
    row = await hand.job("job")

    assert stored == replace(success(), is_stored=False)
    assert row is not None
    assert row["state"] == "running"


async def test_expired_result_is_gone_and_swept(store: Store, hand: Hand) -> None:
    """Done → expires_ms passed → deleted; a result is not handed out between."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=success())
    await store.claim(ticket("young"))
    await hand.age("job")

    result = await store.get_result("job")
    swept = await store.sweep()

    assert (result, swept) == (None, 1)
    assert await hand.job("job") is None
    assert await hand.job("young") is not None


async def test_job_that_is_not_done_outlives_the_lifetime_of_results(store: Store, hand: Hand) -> None:
    """Running and waiting rows go only after MAX_AGE + RESULT_TTL."""
    running = await store.claim(ticket("running"))
    waiting = await store.claim(ticket("waiting"))
    await store.release(ticket("waiting"), token=waiting.token, spent=Spent(), is_attempt=False)

    rows = [await hand.job("running"), await hand.job("waiting")]

    assert [row["expires_ms"] - running.now_ms > 93_000_000 for row in rows if row] == [True, True]


async def test_a_job_that_nobody_came_back_for_is_swept(store: Store, hand: Hand) -> None:
    """Running and waiting rows too, once their time has passed."""
    await store.claim(ticket("running"))
    claim = await store.claim(ticket("waiting"))
    await store.release(ticket("waiting"), token=claim.token, spent=Spent(), is_attempt=False)
    await hand.age("running")
    await hand.age("waiting")

    swept = await store.sweep()

    assert (swept, await hand.job("running"), await hand.job("waiting")) == (2, None, None)


async def test_the_state_of_a_job_is_told(store: Store, hand: Hand) -> None:
    """Running, waiting, done; none for what was never seen, and for what is past its lifetime."""
    states = [await store.get_state("job")]
    claim = await store.claim(ticket())
    states.append(await store.get_state("job"))
    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=True)
    states.append(await store.get_state("job"))
    await finish(store, ticket(), token=claim.token, outcome=success())
    states += [await store.get_state("job"), await store.get_state("job", tenant="other")]
    await hand.age("job")
    states.append(await store.get_state("job"))

    assert states == [None, "running", "waiting", "done", None, None]


async def test_unknown_job_has_no_result(store: Store) -> None:
    """get_result is None where nothing is stored, while running too."""
    await store.claim(ticket())

    assert await store.get_result("job") is None
    assert await store.get_result("never") is None


async def test_calls_and_costs_add_up_and_unknown_costs_are_remembered(store: Store) -> None:
    """Unknown is never 0: the calls without a price are counted beside the sum of the known ones."""
    seen = []
    for spent in (Spent(2, None), Spent(1, 0.25), Spent(0, None), Spent(3, 0.5), Spent(4, None)):
        claim = await store.claim(ticket())
        await store.release(ticket(), token=claim.token, spent=spent, is_attempt=True)
        seen.append((claim.lm_calls, claim.cost_usd, claim.unpriced_lm_calls))
    last = await store.claim(ticket())

    assert seen == [(0, None, 0), (2, None, 2), (3, 0.25, 2), (3, 0.25, 2), (6, 0.75, 2)]
    assert (last.lm_calls, last.cost_usd, last.unpriced_lm_calls) == (10, 0.75, 6)


async def test_tenants_and_namespaces_do_not_meet(store: Store, store_url: str) -> None:
    """The same key of another tenant or deployment is another job."""
    elsewhere = await Store.open(store_url, namespace="elsewhere", worker_id="w", lease_seconds=10)
    claims = [
        await store.claim(ticket()),
        await store.claim(ticket(tenant="a", body_hash="x")),
        await elsewhere.claim(ticket(body_hash="y")),
    ]
    await finish(store, ticket(tenant="a", body_hash="x"), token=claims[1].token, outcome=success())
    results = [
        await store.get_result("job"),
        await elsewhere.get_result("job"),
        await store.get_result("job", tenant="a"),
    ]
    await elsewhere.close()

    assert [claim.verdict for claim in claims] == [Verdict.MINE] * 3
    assert [result is None for result in results] == [True, True, False]


async def test_key_with_a_nul_is_an_ordinary_key(store: Store) -> None:
    """PostgreSQL cannot store the character; a job must not look like a store that is down."""
    of = ticket("a\x00b")
    claim = await store.claim(ticket("a\x00b", program_id="p\x00"))
    await finish(store, of, token=claim.token, outcome=success(b"\x00"))

    assert success(b"\x00") == await store.get_result("a\x00b")
