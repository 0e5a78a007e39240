"""What differs between the engines: URLs, files, locks, lost connections."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError

from tests.integration.store.rows import Hand, OpenStore, ticket
from worker.store import Store, StoreUnavailableError, Verdict
from worker.store.database import connect

on_sqlite = pytest.mark.parametrize("engine_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("engine_url", ["postgresql"], indirect=True)


async def opened(url: str) -> Store:
    """Open a store for a moment."""
    return await Store.open(url, namespace="test", worker_id="w", lease_seconds=10)


@contextmanager
def write_locked(url: str) -> Iterator[None]:
    """Hold the write lock of a SQLite store."""
    with closing(sqlite3.connect(make_url(url).database or "", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.fixture
def letter(tmp_path: Path) -> bytes:
    """Put a file of another kind where the SQLite store would be."""
    path = tmp_path / "state" / "store.db"
    path.parent.mkdir()
    path.write_text("a letter to my aunt, long enough to be read as a header that it is not" * 20)
    return path.read_bytes()


@pytest.mark.parametrize("driver", ["", "+asyncpg", "+aiosqlite"])
async def test_urls_are_accepted_with_and_without_the_driver(store_url: str, driver: str) -> None:
    """Whatever the operator wrote, the async driver is used."""
    backend, _, rest = store_url.partition("://")
    if driver and (driver == "+asyncpg") != (backend == "postgresql"):
        driver = ""
    store = await opened(f"{backend}{driver}://{rest}")

    await store.ping()
    await store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/db", "not mysql://"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("nonsense", "must look like"),
    ],
)
async def test_url_that_names_no_store_is_refused(url: str, words: str) -> None:
    """With what it should look like."""
    with pytest.raises(ValueError, match=words):
        await opened(url)


async def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is an extra; who has not installed it is told its name."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(StoreUnavailableError, match=r"dspex-worker\[postgres\]"):
        await opened("postgresql://user@127.0.0.1/db")


async def test_server_that_is_not_there_is_named_without_its_password() -> None:
    """The message goes to logs."""
    with pytest.raises(StoreUnavailableError, match="DSPEX_STORE_URL") as caught:
        await opened("postgresql://user:geheim@127.0.0.1:1/db")

    assert "geheim" not in str(caught.value)


@on_sqlite
async def test_file_and_folder_are_private(store_url: str, store: Store) -> None:
    """Replies are in it."""
    path = Path(make_url(store_url).database or "")

    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path, path.with_name(f"{path.name}-wal"))]

    assert modes == [0o700, 0o600, 0o600]


@on_sqlite
async def test_a_process_that_is_through_with_the_file_leaves_the_log_to_the_others(
    store_url: str, store: Store
) -> None:
    """The last one out deletes the log, and takes itself for the last where another has lost its locks."""
    path = make_url(store_url).database or ""
    look = f"import sqlite3; c = sqlite3.connect({path!r}); c.execute('SELECT * FROM workers').fetchall(); c.close()"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", look)
    code = await other.wait()
    await store.ping()
    has_log = await asyncio.to_thread(Path(f"{path}-wal").exists)

    assert (code, has_log) == (0, True)


@on_sqlite
async def test_writer_uses_the_log_and_syncs_each_commit(store_url: str) -> None:
    """WAL and synchronous=FULL (2), and never a deferred transaction."""
    database = connect(store_url)

    settings = await database.write(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    await database.close()

    assert settings == ["wal", 2]


@on_sqlite
async def test_reader_cannot_write(store_url: str, store: Store) -> None:
    """Reads have a connection of their own, beside the one writer."""
    database = connect(store_url)

    with pytest.raises(StoreUnavailableError, match="readonly"):
        await database.read(lambda c: c.execute(text("DELETE FROM jobs")))
    await database.close()


@on_sqlite
async def test_reads_go_on_while_another_process_writes(store_url: str, store: Store) -> None:
    """WAL: a writer blocks no reader."""
    with write_locked(store_url):
        result = await store.get_result("job")

    assert result is None


@on_sqlite
async def test_lock_held_too_long_is_a_clear_exception_and_passes(store_url: str, store: Store) -> None:
    """The message says what to look for; afterwards all goes on."""
    database = connect(store_url, lock_seconds=0.05)

    with write_locked(store_url), pytest.raises(StoreUnavailableError, match="look for a long transaction"):
        await database.write(lambda c: c.execute(text("DELETE FROM jobs")))
    await database.write(lambda c: c.execute(text("DELETE FROM jobs")))
    await database.close()

    assert (await store.claim(ticket())).verdict is Verdict.MINE


@on_sqlite
async def test_file_that_is_no_database_is_refused_and_left_alone(store_url: str, letter: bytes) -> None:
    """A wrong path must not cost anybody a file."""
    with pytest.raises(StoreUnavailableError, match="names a file of another kind"):
        await opened(store_url)

    content = await asyncio.to_thread(Path(make_url(store_url).database or "").read_bytes)
    assert letter == content


@on_postgresql
async def test_cut_connections_are_made_again(store_url: str, hand: Hand, open_store: OpenStore) -> None:
    """A clear exception at most once; claims and heartbeats go on by themselves."""
    store = await open_store(lease_seconds=0.5)
    await store.claim(ticket("before"))
    await hand.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await hand.execute("DELETE FROM workers")

    with pytest.raises(StoreUnavailableError, match="Check DSPEX_STORE_URL"):
        await store.claim(ticket())
    claim = await store.claim(ticket())
    while not await hand.workers():
        continue

    assert claim.verdict is Verdict.MINE


@on_postgresql
async def test_owner_that_came_while_a_claim_waited_for_the_row_is_alive(store_url: str, store: Store) -> None:
    """The waiting claim cannot see the new owner's heartbeat, only its claim."""
    await store.claim(ticket())
    late = await opened(store_url)
    rival = await asyncpg.connect(store_url)
    watcher = await asyncpg.connect(store_url)
    async with rival.transaction():
        await rival.execute("SELECT 1 FROM jobs FOR UPDATE")
        waiting = asyncio.create_task(late.claim(ticket()))
        while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            continue
        await watcher.execute("INSERT INTO workers SELECT namespace, 'new', host, 0, seen_ms FROM workers LIMIT 1")
        now_ms = "extract(epoch FROM clock_timestamp()) * 1000"
        await rival.execute(f"UPDATE jobs SET owner = 'new', claim_token = 'new', claimed_ms = {now_ms}")

    claim = await waiting
    for each in (rival, watcher, late):
        await each.close()

    assert claim.verdict is Verdict.ELSEWHERE


@on_postgresql
@pytest.mark.parametrize("query", ["sslmode=prefer", "sslmode=disable", "ssl=prefer", "connect_timeout=5"])
async def test_options_of_libpq_are_understood(store_url: str, query: str) -> None:
    """URLs are copied from other programs' settings."""
    store = await opened(f"{store_url}?{query}")

    await store.ping()
    await store.close()


@on_postgresql
async def test_settings_of_the_server_are_passed_on(store_url: str) -> None:
    """And the store's own stay."""
    database = connect(f"{store_url}?application_name=x&options=-csearch_path%3Dpublic")
    asked = text(
        "SELECT name, setting FROM pg_settings WHERE name IN ('application_name', 'search_path', 'lock_timeout')"
    )
    found = await database.read(lambda c: {row.name: row.setting for row in c.execute(asked)})
    await database.close()

    assert found == {"application_name": "x", "search_path": "public", "lock_timeout": "5000"}


@on_postgresql
@pytest.mark.parametrize("statement", ["SELECT CAST(:value AS BIGINT)", "SELECT 1 / CAST(:value AS NUMERIC)"])
async def test_a_value_that_the_engine_cannot_take_is_the_jobs_trouble(store_url: str, statement: str) -> None:
    """Refused by the driver or by the server: a store that counted as down for it would hold all other jobs."""
    database = connect(store_url)
    value = 2**70 if "BIGINT" in statement else 0

    with pytest.raises(DBAPIError):
        await database.write(lambda c: c.execute(text(statement), {"value": value}))
    assert await database.read(lambda c: c.execute(text("SELECT 1")).scalar_one()) == 1

    await database.close()


def count_prepared(connection: Connection) -> int:
    """Count the statements that the server keeps for this connection."""
    return int(connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())


@on_postgresql
async def test_behind_a_pooler_nothing_outlives_its_transaction(store_url: str) -> None:
    """The next transaction may be on another connection of the server, which has neither statements nor settings."""
    url = f"{store_url}?pgbouncer=true"
    store = await opened(url)
    claim = await store.claim(ticket())
    again = await store.claim(ticket())
    database = connect(url)
    left = [await database.read(count_prepared) for _ in range(3)]
    settings = await database.read(lambda c: c.execute(text("SHOW lock_timeout")).scalar_one())
    await database.close()
    await store.close()

    assert (claim.verdict, again.verdict) == (Verdict.MINE, Verdict.HERE)
    assert (left, settings) == ([0, 0, 0], "0")


@on_postgresql
@pytest.mark.parametrize("statements", [["PREPARE a AS SELECT 1"] * 2, ["EXECUTE nobody"]])
async def test_a_prepared_statement_that_a_pooler_has_swapped_is_the_stores_trouble(
    store_url: str, statements: list[str]
) -> None:
    """Not the job's: it would end with a dead letter. The sentence says what to change."""
    database = connect(store_url)

    def work(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    with pytest.raises(StoreUnavailableError, match="pooler"):
        await database.write(work)
    await database.close()
