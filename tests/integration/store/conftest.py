"""Every test runs on both engines, each time with a database of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from tests.faults.proxy import Proxy
from tests.integration.store.rows import NAMESPACE, Hand, OpenStore
from worker.store import Store
from worker.store.database import connect


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of this session's own."""
    name = f"store_{secrets.token_hex(4)}"
    asyncio.run(_execute(postgres_url, f"CREATE DATABASE {name}"))
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    asyncio.run(_execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store is; not async, because the database is made once, outside of any test's event loop."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/store.db"
    url: str = request.getfixturevalue("database_url")
    return url


@pytest.fixture
async def store_url(engine_url: str) -> AsyncIterator[str]:
    """The URL of an empty store."""
    yield engine_url
    if engine_url.startswith("postgresql"):
        await _execute(engine_url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")


@pytest.fixture
async def proxy(store_url: str) -> AsyncIterator[Proxy]:
    """What stands before the store's PostgreSQL server, for a URL with its port."""
    async with Proxy(make_url(store_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def open_store(store_url: str) -> AsyncIterator[OpenStore]:
    """A function that opens stores."""
    stores: list[Store] = []

    async def opened(*, worker_id: str = "w", lease_seconds: float = 10.0, version: str = "") -> Store:
        store = await Store.open(
            store_url, namespace=NAMESPACE, worker_id=worker_id, lease_seconds=lease_seconds, version=version
        )
        stores.append(store)
        return store

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    """A store that is open."""
    return await open_store()


@pytest.fixture
async def other(open_store: OpenStore) -> Store:
    """The store of another worker on the same database."""
    return await open_store(worker_id="other")


@pytest.fixture
async def hand(store_url: str, store: Store) -> AsyncIterator[Hand]:
    """A hand in the tables of the open store."""
    database = connect(store_url)
    yield Hand(database.write)
    await database.close()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()
