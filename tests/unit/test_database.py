"""Writes that share a commit on SQLite: each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from worker.store import StoreUnavailableError
from worker.store.database import Database, connect


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = connect(f"sqlite:///{tmp_path}/x.db", lock_seconds=0.2)
    await database.write(lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
    yield database
    await database.close()


def insert(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})
        return number

    return work


async def rows(database: Database) -> list[int]:
    return await database.read(
        lambda connection: list(connection.execute(text("SELECT n FROM t ORDER BY n")).scalars())
    )


async def test_a_write_that_fails_takes_no_other_with_it(database: Database) -> None:
    """One of twenty that wait together breaks; the others are stored and told so."""

    def broken(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (100)"))
        raise LookupError

    works: list[Callable[[Connection], Any]] = [broken if number == 7 else insert(number) for number in range(20)]
    results = await asyncio.gather(*map(database.write, works), return_exceptions=True)

    expected = [number for number in range(20) if number != 7]
    assert isinstance(results[7], LookupError)
    assert [result for result in results if not isinstance(result, LookupError)] == expected
    assert await rows(database) == expected


async def test_a_locked_file_is_told_to_all_that_wait(database: Database, tmp_path: Path) -> None:
    """All that wait together are told together that the store is away."""
    other = connect(f"sqlite:///{tmp_path}/x.db", lock_seconds=0.2)
    locked, released = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        loop.call_soon_threadsafe(locked.set)
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result()

    holding = asyncio.create_task(other.write(hold))
    await locked.wait()
    results = await asyncio.gather(
        *(database.write(insert(number)) for number in range(12)),
        return_exceptions=True,
    )
    released.set()
    await holding
    await other.close()

    assert all(isinstance(result, StoreUnavailableError) for result in results)


async def test_a_write_after_the_close_is_told_so(tmp_path: Path) -> None:
    """It must not wait for a thread that is gone."""
    database = connect(f"sqlite:///{tmp_path}/x.db")
    await database.write(lambda connection: None)
    await database.close()

    with pytest.raises(StoreUnavailableError, match="closed"):
        await database.write(lambda connection: None)


async def test_an_error_of_a_statement_tells_no_values(database: Database) -> None:
    """They are ids and replies, and an error's text may reach the log."""
    await database.write(insert(7_777))
    with pytest.raises(IntegrityError) as raised:
        await database.write(insert(7_777))

    assert "7777" not in str(raised.value)
