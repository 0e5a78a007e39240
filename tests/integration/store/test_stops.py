"""Workers that were told to stop and died with jobs in hand: counted apart from crashes, on both engines."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.store.rows import Hand, OpenStore, failure, finish, ticket
from worker.store import Spent, Store, Verdict


async def column(hand: Hand, name: str, *, key: str = "job") -> Any:
    """Return one value of a job's row."""
    row = await hand.job(key)
    assert row is not None
    return row[name]


async def test_a_death_after_the_stop_was_noted_is_a_stop_and_no_crash(
    open_store: OpenStore, store: Store, hand: Hand
) -> None:
    """Running, owner told to stop, and dead → claim → running, stops + 1."""
    dying = await open_store(worker_id="dying")
    await dying.claim(ticket())
    await dying.note_stop()
    await dying.close()

    claim = await store.claim(ticket())

    assert (claim.verdict, claim.stops, claim.crashes) == (Verdict.MINE, 1, 0)
    assert await column(hand, "stop_noted_ms") is None


async def test_a_job_that_is_claimed_after_the_stop_is_noted_by_its_claim(open_store: OpenStore, store: Store) -> None:
    """It was in hand already, and only its claim came late; so with a row that is new, and with one that was there."""
    await store.claim(ticket("old"))
    await store.release(ticket("old"), token="", spent=Spent(), is_attempt=False)
    dying = await open_store(worker_id="dying")
    await dying.note_stop()
    await store.close()
    claims = [await dying.claim(ticket(key)) for key in ("new", "old")]
    await dying.close()

    last = await open_store(worker_id="last")
    found = [await last.claim(ticket(key)) for key in ("new", "old")]

    assert [claim.verdict for claim in claims] == [Verdict.MINE, Verdict.MINE]
    assert [(claim.stops, claim.crashes) for claim in found] == [(1, 0), (1, 1)]


async def test_a_claim_that_is_under_way_when_the_stop_comes_is_noted(open_store: OpenStore, store: Store) -> None:
    """Whichever of the two the database sees first."""
    dying = await open_store(worker_id="dying")
    keys = [str(number) for number in range(20)]
    claims = [asyncio.create_task(dying.claim(ticket(key))) for key in keys]
    await asyncio.sleep(0)
    await asyncio.gather(dying.note_stop(), *claims)
    await dying.close()

    found = [await store.claim(ticket(key)) for key in keys]

    assert [(claim.stops, claim.crashes) for claim in found] == [(1, 0)] * len(keys)


async def test_more_jobs_than_one_statement_takes_are_noted(open_store: OpenStore, store: Store) -> None:
    """And none of those that another worker runs."""
    dying = await open_store(worker_id="dying")
    await asyncio.gather(*(dying.claim(ticket(str(number))) for number in range(600)))
    await store.claim(ticket("others"))
    await dying.note_stop()
    await dying.close()
    found = [await store.claim(ticket(str(number))) for number in (0, 599)]
    await store.close()

    last = await open_store(worker_id="last")
    others = await last.claim(ticket("others"))

    assert [claim.stops for claim in found] == [1, 1]
    assert (others.stops, others.crashes) == (0, 1)


async def test_a_mark_of_an_earlier_claim_does_not_count(store: Store, hand: Hand) -> None:
    """A worker that does not know the column claims the row, leaves the mark as it was, and crashes."""
    await store.claim(ticket())
    await hand.execute("UPDATE jobs SET stop_noted_ms = claimed_ms - 60000")
    await hand.give_to_ghost("job", seen_ms_ago=11_000)

    claim = await store.claim(ticket())

    assert (claim.stops, claim.crashes) == (0, 1)


async def test_a_stop_in_which_the_job_is_given_back_is_none(open_store: OpenStore, store: Store, hand: Hand) -> None:
    """The drain was over in time: nobody was killed."""
    leaving = await open_store(worker_id="leaving")
    held = await leaving.claim(ticket())
    await leaving.note_stop()
    await leaving.release(ticket(), token=held.token, spent=Spent(), is_attempt=False)
    noted = await column(hand, "stop_noted_ms")
    await leaving.close()

    claim = await store.claim(ticket())

    assert (noted, claim.stops, claim.crashes) == (None, 0, 0)


async def test_a_higher_generation_begins_without_stops(open_store: OpenStore, store: Store) -> None:
    """As with crashes: whoever replays the job may have given the workers more time."""
    dying = await open_store(worker_id="dying")
    await dying.claim(ticket())
    await dying.note_stop()
    await dying.close()
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=failure())

    replay = await store.claim(ticket(generation=1))

    assert (claim.stops, replay.stops) == (1, 0)
