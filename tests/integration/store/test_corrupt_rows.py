"""What this code never writes: one job fails, and nothing else is harmed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.integration.store.rows import Hand, OpenStore, failure, finish, success, ticket
from worker.store import CorruptRowError, Holding, NewProgram, Spent, Store, StoreUnavailableError, Verdict

on_sqlite = pytest.mark.parametrize("engine_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    "damage",
    ["state = 'lost'", "reply = NULL", "settlement = NULL", "outcome = 'perhaps'", "outcome = NULL"],
)
async def test_a_row_that_cannot_be_read_fails_its_own_claim_only(store: Store, hand: Hand, damage: str) -> None:
    """Also where others share the transaction; the row stays for somebody to look at."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=success())
    await hand.execute(f"UPDATE jobs SET {damage}")
    before = await hand.job("job")

    claims = await asyncio.gather(*(store.claim(ticket(key)) for key in ("a", "job", "z")), return_exceptions=True)

    assert isinstance(claims[1], CorruptRowError)
    assert [not isinstance(one, BaseException) and one.verdict for one in claims] == [Verdict.MINE, False, Verdict.MINE]
    assert before == await hand.job("job")


async def test_a_damaged_result_is_told_to_who_asks_for_it(store: Store, hand: Hand) -> None:
    """Not as a store that is away: it would be waited for."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=success())
    await hand.execute("UPDATE jobs SET reply = NULL")

    with pytest.raises(CorruptRowError, match="no reply"):
        await store.get_result("job")

    assert store.availability.is_up


@on_sqlite
async def test_a_number_that_is_none_is_found_at_the_claim(store: Store, hand: Hand) -> None:
    """SQLite keeps whatever it is given; a budget must not be reckoned with it."""
    claim = await store.claim(ticket())
    await store.release(ticket(), token=claim.token, spent=Spent(), is_attempt=True)
    await hand.execute("UPDATE jobs SET attempts = 'many'")

    with pytest.raises(CorruptRowError):
        await store.claim(ticket())


async def test_a_replay_heals_the_row_of_a_failed_job(store: Store, hand: Hand) -> None:
    """A higher generation writes every column anew."""
    claim = await store.claim(ticket())
    await finish(store, ticket(), token=claim.token, outcome=failure())
    await hand.execute("UPDATE jobs SET reply = NULL")

    replay = await store.claim(ticket(generation=1))

    assert replay.verdict is Verdict.MINE


async def test_a_definition_that_is_no_json_is_handed_on_as_it_is(store: Store, hand: Hand) -> None:
    """It is opaque to the store: the list of programs, and the claim that names it, still work."""
    for name in ("good", "bad"):
        new = NewProgram(program_id=name, fingerprint=name, definition="{}")
        await store.create_program(new, ticket=None, token="", answer=lambda _: success())
    await hand.execute("UPDATE programs SET definition = '{' WHERE program_id = 'bad'")

    claim = await store.claim(ticket(program_id="bad"))
    listed = await store.list_programs()
    await store.delete_program("bad", holding=Holding(None, "", 1), outcome=success())

    assert claim.program is not None
    assert claim.program.definition == "{"
    assert sorted(record.program_id for record in listed) == ["bad", "good"]


@on_sqlite
async def test_a_damaged_file_is_a_store_that_is_away_and_says_what_to_do(
    store_url: str, open_store: OpenStore
) -> None:
    """The operator is told to restore a backup."""
    first = await open_store()
    keys = [f"{number} {'x' * 200}" for number in range(200)]
    await asyncio.gather(*(first.claim(ticket(key)) for key in keys))
    await first.close()
    await asyncio.to_thread(_damage, Path(make_url(store_url).database or ""))

    store = await open_store()
    claims = await asyncio.gather(*(store.claim(ticket(key)) for key in keys), return_exceptions=True)
    found = [str(claim) for claim in claims if isinstance(claim, StoreUnavailableError)]

    assert [message for message in found if "malformed" in message and "restore a backup" in message]
    assert not [claim for claim in claims if isinstance(claim, CorruptRowError)]


def _damage(path: Path) -> None:
    """Overwrite the later half of the file, where the rows of jobs are."""
    content = path.read_bytes()
    middle = len(content) // 2 // 4096 * 4096
    path.write_bytes(content[:middle] + b"\xff" * (len(content) - middle))
