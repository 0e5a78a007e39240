"""Many workers at once: opening, claiming, dying, and heartbeats that survive what a process does to itself."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from sqlalchemy import text

from tests.integration.store.rows import NAMESPACE, Hand, OpenStore, finish, success, ticket
from worker.store import Store, StoreUnavailableError, Verdict
from worker.store.database import connect
from worker.store.schema import SCHEMA_VERSION

_CLAIM_AND_HANG = """
import asyncio, sys
from worker.store import Store, Ticket

async def main() -> None:
    store = await Store.open(sys.argv[1], namespace="test", worker_id="child", lease_seconds=1.0)
    await store.claim(Ticket(job_key=sys.argv[2], body_hash="hash"))
    print("claimed", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def claimant(url: str, *, key: str) -> AsyncIterator[asyncio.StreamReader]:
    """Start a process that claims a job and hangs; at the end it is killed with -9."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLAIM_AND_HANG, url, key, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    try:
        yield child.stdout
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def claim_until_mine(store: Store) -> int:
    """Claim again and again and return after how many claims the job was taken over."""
    claims = 1
    while (await store.claim(ticket())).verdict is not Verdict.MINE:
        claims += 1
    return claims


async def test_twelve_claims_at_once_have_one_winner(open_store: OpenStore) -> None:
    """One MINE for each key, from a dozen workers, fifteen times."""
    stores = [await open_store(worker_id=str(number)) for number in range(12)]

    rounds = [await asyncio.gather(*(store.claim(ticket(str(n))) for store in stores)) for n in range(15)]

    winners = [sum(claim.verdict is Verdict.MINE for claim in claims) for claims in rounds]
    assert winners == [1] * 15


async def test_twelve_takeovers_at_once_have_one_winner(open_store: OpenStore, hand: Hand) -> None:
    """A dead owner's job goes to one worker, and is one crash."""
    stores = [await open_store(worker_id=str(number)) for number in range(12)]
    await stores[0].claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)

    claims = await asyncio.gather(*(store.claim(ticket()) for store in stores))
    row = await hand.job("job")

    assert sum(claim.verdict is Verdict.MINE for claim in claims) == 1
    assert row is not None
    assert row["crashes"] == 1


async def test_eight_workers_open_an_empty_store_at_once(store_url: str) -> None:
    """No race for the tables, the log mode or the version, from eight processes."""
    async with AsyncExitStack() as stack:
        children = [await stack.enter_async_context(claimant(store_url, key=str(number))) for number in range(8)]
        lines = [await child.readline() for child in children]

    assert lines == [b"claimed\n"] * 8


async def test_killed_worker_loses_its_job_after_the_lease_and_not_before(
    store_url: str, open_store: OpenStore
) -> None:
    """Kill -9, then the lease, then one crash counted."""
    store = await open_store(lease_seconds=1.0)
    async with claimant(store_url, key="job") as child:
        await child.readline()
        alive = await store.claim(ticket())

    claims = await claim_until_mine(store)

    assert alive.verdict is Verdict.ELSEWHERE
    assert claims > 1


async def test_closed_store_gives_its_running_jobs_back_at_once(open_store: OpenStore, hand: Hand) -> None:
    """Close removes the worker's row; nobody waits for the lease."""
    leaving, staying = await open_store(worker_id="leaving"), await open_store(worker_id="staying")
    await leaving.claim(ticket())

    await leaving.close()
    claim = await staying.claim(ticket())

    assert claim.verdict is Verdict.MINE
    assert not [name for name in await hand.workers() if name.startswith("leaving")]


async def test_restarted_worker_with_the_same_id_is_another_owner(open_store: OpenStore, hand: Hand) -> None:
    """Rows of its former life do not look alive because it has come back under its name."""
    first, second = await open_store(worker_id="pod-0"), await open_store(worker_id="pod-0")

    names = [name for name in await hand.workers() if name.startswith("pod-0/")]

    assert len(set(names)) == 2
    assert first is not second


async def test_claim_whose_answer_never_arrived_is_taken_over_by_its_own_process(store: Store, hand: Hand) -> None:
    """A cancelled claim may have been stored, under a token that nobody holds: the next delivery runs the job."""
    await store.claim(ticket())
    await hand.execute("UPDATE jobs SET claim_token = 'lost'")

    claim = await store.claim(ticket())

    assert claim.verdict is Verdict.MINE


async def test_two_claims_of_one_process_at_once_have_one_winner(store: Store) -> None:
    """A claim that is under way is not mistaken for one whose answer was lost."""
    claims = await asyncio.gather(*(store.claim(ticket()) for _ in range(20)))

    assert sum(claim.verdict is Verdict.MINE for claim in claims) == 1


async def test_heartbeat_survives_a_blocked_event_loop(store_url: str, hand: Hand, store: Store) -> None:
    """The loop stands still until another thread has seen two more beats."""
    has_beaten = threading.Event()

    async def watch() -> None:
        database = connect(store_url)
        seen: set[int] = set()
        while len(seen) < 3:
            seen.add(await database.read(lambda c: c.execute(text("SELECT max(seen_ms) FROM workers")).scalar_one()))
        await database.close()
        has_beaten.set()

    watcher = threading.Thread(target=lambda: asyncio.run(watch()))
    watcher.start()
    was_seen = has_beaten.wait(timeout=20)
    watcher.join()

    assert was_seen


async def test_heartbeat_comes_back_after_its_row_is_swept(store: Store, hand: Hand) -> None:
    """A worker that was taken for dead is alive again with its next beat."""
    before = await hand.workers()
    await hand.execute("DELETE FROM workers")

    while not (after := await hand.workers()):
        continue

    assert before == after


async def test_sweep_removes_workers_that_have_long_been_dead(store: Store, hand: Hand) -> None:
    """After ten leases, at least a minute; younger ones stay to be looked at."""
    for name, age_ms in (("young", 90_000), ("old", 110_000)):
        await hand.add_worker(name, seen_ms_ago=age_ms)

    swept = await store.sweep()

    assert swept == 1
    assert "young" in await hand.workers()
    assert "old" not in await hand.workers()


async def test_sweep_ends_only_when_all_batches_are_done(store: Store, hand: Hand) -> None:
    """More rows than one transaction deletes."""
    await store.claim(ticket())
    await hand.copy_job("job", times=2_049)
    await hand.execute("UPDATE jobs SET expires_ms = 1")

    swept = await store.sweep()

    assert swept == 2_050


async def test_ping_answers_while_the_store_takes_writes(store: Store) -> None:
    """It returns, and has written a beat."""
    await store.ping()


async def test_store_of_another_version_is_refused(store_url: str, hand: Hand) -> None:
    """With both versions in the message."""
    await hand.execute("UPDATE schema_version SET version = 99")

    with pytest.raises(StoreUnavailableError, match=f"version 99 and this worker needs {SCHEMA_VERSION}"):
        await Store.open(store_url, namespace=NAMESPACE, worker_id="w", lease_seconds=10)


async def test_results_survive_a_restart(open_store: OpenStore) -> None:
    """Stored means on disk."""
    first = await open_store()
    claim = await first.claim(ticket())
    await finish(first, ticket(), token=claim.token, outcome=success())
    await first.close()

    second = await open_store()

    assert success() == await second.get_result("job")
