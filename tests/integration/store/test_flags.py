"""Flags, cancel marks, and what deletes all programs: each stored together with its job's outcome."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.store.rows import NAMESPACE, TTL_MS, Hand, OpenStore, failure, finish, success, ticket
from worker.store import Cancellation, Holding, NewProgram, Store, StoredOutcome, Verdict

UNHELD = Holding(None, "", TTL_MS)


def answer(value: object) -> StoredOutcome:
    """Answer with what the change returned."""
    return success(repr(value).encode())


async def hold(store: Store, key: str = "change") -> Holding:
    """Claim the job that makes a change."""
    claim = await store.claim(ticket(key))
    return Holding(ticket(key), claim.token, TTL_MS)


async def cancel(store: Store, key: str = "job", *, ttl_ms: int = TTL_MS) -> str:
    """Cancel a job by one without a row."""
    outcome = await store.cancel(key, holding=Holding(None, "", ttl_ms), answer=lambda one: success(one.value.encode()))
    return outcome.reply.decode()


# Flags


async def test_flags_that_were_never_set_are_absent(store: Store) -> None:
    """Start values are not the store's."""
    assert await store.get_flags() == {}
    assert (await store.claim(ticket())).flags == {}


async def test_a_flag_comes_with_the_next_claim_of_every_worker(store: Store, other: Store) -> None:
    """Set once, it holds for all at once."""
    await store.set_flag("dynamic_signatures", "off", holding=UNHELD, answer=answer)

    claims = [await one.claim(ticket(key)) for key, one in (("a", store), ("b", other))]

    assert [claim.flags for claim in claims] == [{"dynamic_signatures": "off"}] * 2


async def test_flags_survive_a_restart_and_the_last_value_counts(store: Store, open_store: OpenStore) -> None:
    """They are rows, and setting one again replaces it."""
    for value in ("off", "force_off"):
        await store.set_flag("dynamic_signatures", value, holding=UNHELD, answer=answer)
    await store.set_flag("dynamic_signatures_rollout", "7", holding=UNHELD, answer=answer)
    await store.close()

    expected = {"dynamic_signatures": "force_off", "dynamic_signatures_rollout": "7"}

    assert expected == await (await open_store(worker_id="later")).get_flags()


async def test_a_flag_and_its_outcome_are_stored_together_once(store: Store, hand: Hand) -> None:
    """A second run of the same job changes nothing and returns what is stored."""
    holding = await hold(store)
    first = await store.set_flag("f", "1", holding=holding, answer=answer)
    second = await store.set_flag("f", "2", holding=holding, answer=answer)

    row = await hand.job("change")
    assert row is not None
    assert (row["state"], row["reply"]) == ("done", b"{}")
    assert (first.reply, second.reply) == (b"{}", b"{}")
    assert await store.get_flags() == {"f": "1"}


async def test_an_answer_is_made_from_the_flags_before(store: Store) -> None:
    """So that the reply can say what was."""
    await store.set_flag("f", "1", holding=UNHELD, answer=answer)
    outcome = await store.set_flag("f", "2", holding=UNHELD, answer=answer)

    assert outcome.reply == b"{'f': '1'}"


# Cancel marks


async def test_a_job_that_was_never_seen_can_be_cancelled(store: Store, other: Store) -> None:
    """It may be in its queue; its claim sees the mark, whoever makes it."""
    assert await cancel(store) == "cancelled"

    claim = await other.claim(ticket())

    assert (claim.verdict, claim.is_cancelled, claim.flags) == (Verdict.MINE, True, {})


async def test_only_the_job_itself_is_cancelled(store: Store) -> None:
    """Its neighbours run."""
    await cancel(store)

    assert not (await store.claim(ticket("neighbour"))).is_cancelled


async def test_a_mark_outlives_the_row_of_its_job(store: Store) -> None:
    """A message may come again after its row was forgotten."""
    await cancel(store)
    claim = await store.claim(ticket())
    await store.forget(ticket(), token=claim.token)

    assert (await store.claim(ticket())).is_cancelled


async def test_cancelling_twice_says_so(store: Store, other: Store) -> None:
    """Through any worker, and while the job runs."""
    await store.claim(ticket())

    assert [await cancel(store), await cancel(other), await cancel(store)] == [
        "cancelled",
        "already_cancelled",
        "already_cancelled",
    ]


async def test_of_many_that_cancel_at_once_one_is_the_first(store: Store, other: Store) -> None:
    """The others hear that it was cancelled already."""
    said = await asyncio.gather(*(cancel(one) for one in (store, other) * 5))

    assert sorted(said) == ["already_cancelled"] * 9 + ["cancelled"]


@pytest.mark.parametrize("outcome", [success(), failure()], ids=["success", "error"])
async def test_a_job_that_is_done_is_too_late_to_cancel(store: Store, outcome: StoredOutcome) -> None:
    """Nothing is marked, and its reply stays."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=outcome)

    assert await cancel(store) == Cancellation.TOO_LATE.value
    assert await store.find_cancelled({("", "job")}) == set()
    assert (await store.claim(ticket())).stored == outcome


async def test_a_success_that_was_being_stored_wins(store: Store) -> None:
    """It was paid for; from then on it is too late."""
    claim = await store.claim(ticket())
    first = await cancel(store)
    stored = await finish(store, ticket(), token=claim.token, outcome=success())

    assert (first, stored) == ("cancelled", success())
    assert await cancel(store) == "too_late"


async def test_a_worker_finds_the_marks_of_its_running_jobs(store: Store, other: Store) -> None:
    """One question for any number of jobs; others' marks are not its business."""
    for key in ("a", "b", "not mine", "ü'\""):
        await cancel(other, key)

    found = await store.find_cancelled({("", key) for key in ("a", "ü'\"", *(f"job {n}" for n in range(2_000)))})

    assert found == {("", "a"), ("", "ü'\"")}


async def test_a_mark_past_its_lifetime_counts_no_more_and_is_swept(store: Store, hand: Hand) -> None:
    """The id may then be used again; a fresh cancel is the first."""
    await cancel(store, ttl_ms=0)
    claim = await store.claim(ticket())
    said = [await cancel(store, ttl_ms=0) for _ in range(2)]
    swept = await store.sweep()

    assert not claim.is_cancelled
    assert await store.find_cancelled({("", "job")}) == set()
    assert said == ["cancelled", "cancelled"]
    assert swept == 1


async def test_cancelling_is_stored_with_its_own_jobs_outcome(store: Store) -> None:
    """A repeated cancel job repeats its reply; it does not find its own mark."""
    holding = await hold(store)
    first = await store.cancel("job", holding=holding, answer=answer)
    again = (await store.claim(ticket("change"))).stored

    assert again == first


# All programs at once


def program(program_id: str, kind: str = "dynamic") -> NewProgram:
    return NewProgram(program_id=program_id, fingerprint=program_id, definition="{}", kind=kind)


async def create(store: Store, *programs: NewProgram) -> None:
    for one in programs:
        await store.create_program(one, ticket=None, token="", answer=answer)


async def test_programs_are_counted_by_kind(store: Store) -> None:
    """A replaced program counts as what it is now."""
    await create(store, program("a"), program("b"), program("c", "legacy"))
    await create(store, NewProgram("b", "other", "{}", kind="fallback", replace=True))

    assert await store.count_kinds() == {"dynamic": 1, "legacy": 1, "fallback": 1}


async def test_all_programs_are_deleted_with_the_outcome(store: Store, hand: Hand) -> None:
    """And their number is in it; a repetition deletes nothing that came later."""
    await create(store, program("a"), program("b"))
    holding = await hold(store)
    first = await store.delete_programs(holding=holding, answer=answer)
    await create(store, program("c"))
    second = await store.delete_programs(holding=holding, answer=answer)

    assert (first.reply, second.reply) == (b"2", b"2")
    assert [one.program_id for one in await store.list_programs()] == ["c"]


# Stores of another version and of others


async def test_a_store_of_version_1_is_brought_up_to_date(store: Store, hand: Hand, open_store: OpenStore) -> None:
    """Its programs keep what they are."""
    for kind in ("dynamic", "legacy", "fallback"):
        await create(store, NewProgram(kind, kind, f'{{"kind":"{kind}","definition":null}}', kind=kind))
    await store.close()
    for statement in (
        "ALTER TABLE programs DROP COLUMN kind",
        "ALTER TABLE jobs DROP COLUMN not_before_ms",
        "ALTER TABLE jobs DROP COLUMN stops",
        "ALTER TABLE jobs DROP COLUMN stop_noted_ms",
        "ALTER TABLE jobs DROP COLUMN stored_ms",
        "ALTER TABLE workers DROP COLUMN version",
        "ALTER TABLE workers DROP COLUMN status",
        "DROP TABLE flags",
        "DROP TABLE cancellations",
        "UPDATE schema_version SET version = 1",
    ):
        await hand.execute(statement)

    upgraded = await open_store(worker_id="new")

    assert await upgraded.count_kinds() == {"dynamic": 1, "legacy": 1, "fallback": 1}
    assert await upgraded.get_flags() == {}
    await create(upgraded, program("another"))
    await (await open_store(worker_id="newer")).ping()


async def test_another_namespace_has_flags_and_marks_of_its_own(store: Store, store_url: str) -> None:
    """Deployments in one database never meet."""
    await store.set_flag("f", "1", holding=UNHELD, answer=answer)
    await cancel(store)
    foreign = await Store.open(store_url, namespace=f"not-{NAMESPACE}", worker_id="w", lease_seconds=10)
    claim = await foreign.claim(ticket())
    flags = await foreign.get_flags()
    await foreign.close()

    assert (claim.flags, claim.is_cancelled, flags) == ({}, False, {})
