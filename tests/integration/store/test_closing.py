"""A store that hangs is closed all the same, soon: a stop must not wait for what never answers."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy import make_url, text

from tests.faults.proxy import Proxy
from tests.integration.store.rows import NAMESPACE, ticket
from tests.integration.store.test_engines import on_postgresql, on_sqlite, write_locked
from worker.store import Store, StoreUnavailableError
from worker.store.database import connect


@on_postgresql
async def test_an_idle_store_is_closed_in_three_seconds_while_its_server_hangs(store_url: str, proxy: Proxy) -> None:
    """Its pool is full of connections, each of which would take ten seconds."""
    url = make_url(store_url).set(port=proxy.port).render_as_string(hide_password=False)
    store = await Store.open(url, namespace=NAMESPACE, worker_id="w", lease_seconds=10)
    await asyncio.gather(*(store.get_result(ticket().job_key) for _ in range(5)))
    proxy.swallow()
    began = time.monotonic()

    await store.close()
    seconds = time.monotonic() - began
    proxy.flow()

    assert seconds < 8


@on_postgresql
async def test_what_is_under_way_at_a_close_is_told_so_while_the_server_hangs(store_url: str, proxy: Proxy) -> None:
    """Reads and writes, those at the server and those that wait for their turn."""
    url = make_url(store_url).set(port=proxy.port).render_as_string(hide_password=False)
    database = connect(url)
    await asyncio.gather(*(database.read(lambda c: c.execute(text("SELECT 1"))) for _ in range(5)))
    proxy.swallow()
    writes = [asyncio.create_task(database.write(lambda c: c.execute(text("SELECT 1")))) for _ in range(9)]
    await asyncio.sleep(0)
    began = time.monotonic()

    await database.close()
    results = await asyncio.gather(*writes, return_exceptions=True)
    seconds = time.monotonic() - began
    proxy.flow()

    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert seconds < 8


@on_sqlite
async def test_a_store_is_closed_while_another_process_holds_the_lock(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer thread waits in SQLite, which nobody can call back; here for far longer than a close may take."""
    monkeypatch.setattr("worker.store.store.connect", partial(connect, lock_seconds=30.0))
    store = await Store.open(store_url, namespace=NAMESPACE, worker_id="w", lease_seconds=10)
    with write_locked(store_url):
        claim = asyncio.create_task(store.claim(ticket()))
        await asyncio.sleep(0)
        began = time.monotonic()
        await store.close()
        seconds = time.monotonic() - began
    with pytest.raises(StoreUnavailableError):
        await claim

    assert seconds < 8


@on_sqlite
async def test_what_waits_at_a_close_is_stored_where_the_lock_is_free(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is for what hangs; a busy disk must not reach it here."""
    monkeypatch.setattr("worker.store.database.sqlite._CLOSE_SECONDS", 30.0)
    database = connect(store_url)
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    writes = [
        asyncio.create_task(database.write(lambda c: c.execute(text("INSERT INTO t VALUES (1)")))) for _ in range(9)
    ]
    await asyncio.sleep(0)

    await database.close()
    await asyncio.gather(*writes)
    again = connect(store_url)
    stored = await again.read(lambda c: c.execute(text("SELECT count(*) FROM t")).scalar_one())
    await again.close()

    assert stored == 9
