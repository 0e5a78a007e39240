"""Writes that share a transaction on a real server: fewer commits, no deadlocks, and heartbeats between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
from sqlalchemy import Connection, text

from tests.integration.store.rows import Hand, OpenStore, finish, success, ticket
from tests.integration.store.test_engines import on_postgresql
from worker.store import Store, StoreUnavailableError, Verdict
from worker.store.database import connect


def touch(number: int) -> Callable[[Connection], Any]:
    return lambda connection: connection.execute(text("UPDATE t SET n = n + 1 WHERE id = :id"), {"id": number})


@on_postgresql
async def test_claims_of_one_turn_are_one_transaction(store: Store, hand: Hand) -> None:
    """Twenty rows, written by one commit."""
    await asyncio.gather(*(store.claim(ticket(str(number))) for number in range(20)))

    transactions = await hand.count("SELECT count(DISTINCT xmin::text) FROM jobs")

    assert transactions == 1


@on_postgresql
async def test_a_broken_neighbour_costs_the_others_their_company_only(store: Store, hand: Hand) -> None:
    """A database error in one of them, which ends a transaction on PostgreSQL: the others are stored."""
    await hand.execute("ALTER TABLE jobs ADD CONSTRAINT no_seven CHECK (job_key <> '7')")

    claims = await asyncio.gather(*(store.claim(ticket(str(number))) for number in range(10)), return_exceptions=True)
    stored = await hand.count("SELECT count(*) FROM jobs")

    assert [number for number, claim in enumerate(claims) if isinstance(claim, BaseException)] == [7]
    assert stored == 9


async def test_two_workers_with_the_same_jobs_in_opposite_order_do_not_wait_for_each_other(
    open_store: OpenStore,
) -> None:
    """One winner each, in seconds and without an error."""
    stores = [await open_store(worker_id=str(number)) for number in range(2)]
    keys = [f"{number:03}" for number in range(60)]

    for round_number in range(5):
        of = [f"{round_number}-{key}" for key in keys]
        claims = await asyncio.gather(
            *(stores[0].claim(ticket(key)) for key in of), *(stores[1].claim(ticket(key)) for key in reversed(of))
        )

        assert sum(claim.verdict is Verdict.MINE for claim in claims) == len(keys)


@on_postgresql
async def test_a_deadlock_with_somebody_else_is_survived(store_url: str, hand: Hand) -> None:
    """The server breaks it after a second; whoever is its victim, our writes are stored."""
    await hand.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    await hand.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    database = connect(store_url)
    rival, watcher = await asyncpg.connect(store_url), await asyncpg.connect(store_url)
    await rival.execute("SET deadlock_timeout = '1min'")
    await rival.execute("BEGIN; UPDATE t SET n = n + 10 WHERE id = 2")

    writing = asyncio.gather(database.write(touch(1), order=("1",)), database.write(touch(2), order=("2",)))
    while not await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        continue
    await rival.execute("UPDATE t SET n = n + 10 WHERE id = 1; COMMIT")
    await writing
    numbers = await rival.fetchval("SELECT array_agg(n ORDER BY id) FROM t")
    for each in (database, rival, watcher):
        await each.close()

    assert numbers == [11, 11]


@on_postgresql
async def test_a_row_that_somebody_holds_fails_its_own_write_only(store_url: str, hand: Hand) -> None:
    """After the lock's time-out the others go through, each alone."""
    await hand.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    await hand.execute("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)")
    database = connect(store_url, lock_seconds=0.5)
    rival = await asyncpg.connect(store_url)
    await rival.execute("BEGIN; UPDATE t SET n = 0 WHERE id = 2")

    results = await asyncio.gather(
        *(database.write(touch(number), order=(str(number),)) for number in (1, 2, 3)), return_exceptions=True
    )
    await rival.execute("COMMIT")
    numbers = await rival.fetchval("SELECT array_agg(n ORDER BY id) FROM t")
    for each in (database, rival):
        await each.close()

    assert [isinstance(result, StoreUnavailableError) for result in results] == [False, True, False]
    assert numbers == [1, 0, 1]


async def test_the_heart_beats_while_writes_never_pause(store: Store, hand: Hand) -> None:
    """The thread's own connection gets its turn between the batches."""
    seen: set[int] = set()

    async def write(worker: int) -> None:
        number = 0
        while len(seen) < 3:
            of = ticket(f"{worker}-{number}")
            claim = await store.claim(of)
            await finish(store, of, token=claim.token, outcome=success())
            number += 1

    writers = [asyncio.create_task(write(worker)) for worker in range(8)]
    while len(seen) < 3:
        seen.add(await hand.seen_ms())
    await asyncio.gather(*writers)

    assert len(seen) == 3
