"""A store that hangs, is locked or comes back: bounded answers, one probe, and nobody taken for dead by mistake."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import make_url, text

from tests.faults.proxy import Proxy
from tests.integration.store.rows import NAMESPACE, Hand, OpenStore, finish, success, ticket
from tests.integration.store.test_engines import on_postgresql, on_sqlite, write_locked
from worker.store import Store, StoreUnavailableError, Verdict, briefly, steadily
from worker.store.database import connect
from worker.store.heartbeat import Heartbeat
from worker.store.inbox import Tenure


@on_postgresql
async def test_a_server_that_hangs_is_answered_for_in_bounded_time(store_url: str, proxy: Proxy) -> None:
    """Reads and writes, those under way and those that wait; afterwards all goes on."""
    url = make_url(store_url).set(port=proxy.port).render_as_string(hide_password=False)
    database = connect(url, lock_seconds=0.2)
    await database.write(lambda c: c.execute(text("SELECT 1")))
    proxy.swallow()

    async with asyncio.timeout(5):
        results = await asyncio.gather(
            *(database.write(lambda c: c.execute(text("SELECT 1")), order=("", str(n))) for n in range(9)),
            *(database.write(lambda c: c.execute(text("SELECT 1"))) for _ in range(9)),
            *(database.read(lambda c: c.execute(text("SELECT 1"))) for _ in range(9)),
            return_exceptions=True,
        )
    proxy.flow()
    back = await steadily(lambda: database.write(lambda c: c.execute(text("SELECT 7")).scalar_one()))
    await database.close()

    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert back == 7


@on_postgresql
async def test_an_outage_is_waited_for_and_ends_by_itself(store_url: str, proxy: Proxy) -> None:
    """A claim that is held and a result that was paid for both get through; a short hold gives up."""
    url = make_url(store_url).set(port=proxy.port).render_as_string(hide_password=False)
    store = await Store.open(url, namespace=NAMESPACE, worker_id="w", lease_seconds=10)
    claim = await store.claim(ticket())
    await proxy.refuse()
    proxy.reset()
    storing = asyncio.create_task(steadily(lambda: finish(store, ticket(), token=claim.token, outcome=success())))
    held = asyncio.create_task(briefly(lambda: store.claim(ticket("other"))))
    with pytest.raises(StoreUnavailableError):
        await briefly(lambda: store.claim(ticket("hasty")), hold_seconds=0.01)
    await store.availability.wait_until_given_up(0.01)
    was_up = store.availability.is_up

    await proxy.accept()
    await store.availability.wait_until_up()
    results = await asyncio.gather(storing, held)
    await store.close()

    assert not was_up
    assert (results[0], results[1].verdict) == (success(), Verdict.MINE)


async def test_a_result_that_waits_to_be_stored_keeps_its_claim(store_url: str, store: Store, hand: Hand) -> None:
    """A delivery of the job that gets through first must not run it, and pay for it, once more."""
    claim = await store.claim(ticket())
    await hand.execute("ALTER TABLE jobs RENAME TO jobs_away")
    with pytest.raises(StoreUnavailableError):
        await finish(store, ticket(), token=claim.token, outcome=success())
    await hand.execute("ALTER TABLE jobs_away RENAME TO jobs")
    await store.availability.wait_until_up()

    again = await store.claim(ticket())
    stored = await finish(store, ticket(), token=claim.token, outcome=success())

    assert (again.verdict, stored) == (Verdict.HERE, success())


@on_sqlite
async def test_a_held_lock_takes_down_writes_only(store_url: str, store: Store) -> None:
    """Reads go on, and the lock is found by its time-out, with what to look for."""
    database = connect(store_url, lock_seconds=0.1)

    with write_locked(store_url):
        async with asyncio.timeout(5):
            results = await asyncio.gather(
                *(database.write(lambda c: c.execute(text("DELETE FROM jobs"))) for _ in range(9)),
                return_exceptions=True,
            )
        read = await database.read(lambda c: c.execute(text("SELECT count(*) FROM jobs")).scalar_one())
    await database.close()

    assert all("long transaction" in str(result) for result in results)
    assert read == 0


async def test_after_an_outage_nobody_is_taken_for_dead_who_could_not_beat(
    store_url: str, open_store: OpenStore, hand: Hand
) -> None:
    """Where this process missed its own beats, the others missed theirs; then a job would run, and cost, twice."""
    store = await open_store(lease_seconds=1.0)
    await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=100)
    await hand.execute("ALTER TABLE workers RENAME TO workers_away")
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    # Until the ghost's last beat is older than the lease.
    while store._pulse.excuse(store._tenure).lease_ms < 2_000:  # noqa: ASYNC110 - the thread tells nobody
        await asyncio.sleep(0.05)
    await hand.execute("ALTER TABLE workers_away RENAME TO workers")

    claim = await store.claim(ticket())

    assert claim.verdict is Verdict.ELSEWHERE


async def test_a_process_that_beats_excuses_nobody(store_url: str, store: Store) -> None:
    """A dead worker's jobs are taken over after the lease, as ever."""
    tenure = Tenure(namespace=NAMESPACE, owner="w", lease_ms=10_000, row_age_ms=1)
    pulse = Heartbeat(connect(store_url), tenure=tenure)
    pulse.start()

    excused = pulse.excuse(tenure)
    await pulse.stop()

    assert excused == tenure
