"""A SQLite file that is moved, deleted or replaced under a worker is a store that is down."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text

from tests.integration.store.rows import ticket
from tests.integration.store.test_engines import on_sqlite, opened
from worker.store import Store, StoreUnavailableError, Verdict
from worker.store.database import connect

_PARTS = ("", "-wal", "-shm")


@pytest.fixture
def path(store_url: str) -> Path:
    return Path(make_url(store_url).database or "")


def move(path: Path, to: Path) -> None:
    """Move a store with its log, as an operator would."""
    for part in _PARTS:
        Path(f"{path}{part}").rename(f"{to}{part}")


def delete(path: Path) -> None:
    """Delete a store with its log."""
    for part in _PARTS:
        Path(f"{path}{part}").unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Tell whether there is a file."""
    return path.exists()


@on_sqlite
async def test_a_moved_file_is_down_until_it_is_back(path: Path, store: Store) -> None:
    """Writes, reads and the readiness probe are refused with what to do; the claim made before is found afterwards."""
    await store.claim(ticket())
    away = path.with_name("away.db")
    move(path, away)

    for call in (store.ping, lambda: store.claim(ticket()), lambda: store.get_result(ticket().job_key)):
        with pytest.raises(StoreUnavailableError, match="Put it back"):
            await call()
    was_made_again = is_there(path)
    move(away, path)
    await store.availability.wait_until_up()

    assert not was_made_again
    assert (await store.claim(ticket())).verdict is Verdict.HERE


@on_sqlite
async def test_a_file_in_the_place_of_the_first_one_is_not_used(path: Path, store: Store) -> None:
    """A second worker has made it; the first one must not go on beside it."""
    away = path.with_name("away.db")
    move(path, away)
    newcomer = await opened(f"sqlite:///{path}")
    claim = await newcomer.claim(ticket())

    with pytest.raises(StoreUnavailableError, match="another file"):
        await store.claim(ticket())
    await newcomer.close()

    assert claim.verdict is Verdict.MINE


@on_sqlite
async def test_a_deleted_file_is_made_again_by_no_connection(path: Path) -> None:
    """Not by the worker's writer, and not by a reader that is opened later."""
    database = connect(f"sqlite:///{path}")
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    delete(path)

    for call in (database.read, database.write):
        with pytest.raises(StoreUnavailableError, match="was moved or deleted"):
            await call(lambda c: c.execute(text("SELECT 1")))
    await database.close()

    assert not is_there(path)


async def test_a_path_with_signs_of_a_uri_is_a_path(tmp_path: Path) -> None:
    """SQLite is told the path in a URI."""
    folder = tmp_path / "a#b %20 ü"
    database = connect(URL.create("sqlite", database=f"{folder}/x.db").render_as_string())
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    found = await database.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one())
    await database.close()

    assert (found, sorted(path.name for path in folder.iterdir())) == (0, ["x.db"])
