"""What workers say of themselves with their heartbeats, and what others read of it."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.integration.store.rows import NAMESPACE, Hand, OpenStore
from worker.store import Store, WorkerRecord, describe_workers
from worker.store.reader import open_reader

STATUS = {
    "in_flight": {"create": 0, "execute": 3, "control": 1},
    "paused": [{"reason": "every LM is down", "lanes": ["execute"]}],
    "circuits": {"fast": {"code": "lm_unavailable", "open_seconds": 12.5}},
    "settings": "0123456789ab",
}


async def told(store: Store, worker_id: str, status: str) -> WorkerRecord:
    """Wait until a heartbeat has told it, and return what is read then."""
    store.report(status)
    await store.ping()
    [record] = [one for one in await store.list_workers() if one.worker_id == worker_id]
    return record


async def test_a_worker_is_listed_as_it_tells_of_itself(open_store: OpenStore, store_url: str) -> None:
    """With its id as in its log; whoever is no worker reads the same."""
    store = await open_store(worker_id="pod-1", version="0.2.0")
    record = await told(store, "pod-1", json.dumps(STATUS))
    async with open_reader(store_url, namespace=NAMESPACE) as reader:
        assert reader is not None
        [seen] = describe_workers(await reader.list_workers(lease_seconds=10))
    async with open_reader(store_url, namespace="elsewhere") as reader:
        assert reader is not None
        assert await reader.list_workers(lease_seconds=10) == []

    assert record.is_living
    assert 0 <= seen.pop("uptime") < 60
    assert 0 <= seen.pop("silent_seconds") < 10
    assert isinstance(seen.pop("host"), str)
    assert seen == {"worker_id": "pod-1", "version": "0.2.0", "state": "living", "differs": [], **STATUS}


async def test_the_heartbeat_carries_the_newest_report_by_itself(open_store: OpenStore) -> None:
    """Nobody waits for it: the thread takes what is there at its next beat."""
    store = await open_store(worker_id="pod-1")
    store.report(json.dumps(STATUS))
    async with asyncio.timeout(20):
        while (await store.list_workers())[0].settings is None:  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0.05)

    assert (await store.list_workers())[0].settings == STATUS["settings"]


async def test_a_lost_worker_is_shown_until_it_is_swept(store: Store, hand: Hand) -> None:
    """Its last words stay readable; it differs from nobody."""
    await hand.execute(
        "INSERT INTO workers (namespace, worker_id, host, started_ms, seen_ms, version, status)"
        " SELECT namespace, 'gone/1', host, started_ms - 60000, seen_ms - 30000, '0.0.9', status FROM workers"
    )
    listed = {one["worker_id"]: one for one in describe_workers(await store.list_workers())}

    assert (listed["w"]["state"], listed["gone"]["state"]) == ("living", "lost")
    assert 30 <= listed["gone"]["silent_seconds"] < 60
    assert listed["gone"]["differs"] == []

    await hand.execute("UPDATE workers SET seen_ms = seen_ms - 3600000 WHERE worker_id = 'gone/1'")
    await store.sweep()

    assert [one.worker_id for one in await store.list_workers()] == ["w"]


async def test_a_worker_of_the_last_version_tells_nothing_and_is_listed(store: Store, hand: Hand) -> None:
    """It leaves the new columns out, so its version is not known, and that is a difference."""
    await hand.execute(
        "INSERT INTO workers (namespace, worker_id, host, started_ms, seen_ms)"
        # It does not beat here, and must not be lost before it is looked at.
        " SELECT namespace, 'old/1', host, started_ms, seen_ms + 60000 FROM workers"
    )
    await told(store, "w", json.dumps(STATUS))
    [old] = [one for one in describe_workers(await store.list_workers()) if one["worker_id"] == "old"]

    assert (old["version"], old["in_flight"], old["settings"]) == (None, None, None)
    assert (old["paused"], old["circuits"], old["differs"]) == ([], {}, ["settings"])


@pytest.mark.parametrize(
    "status",
    ["", "[]", "nonsense", '{"in_flight": 3, "paused": {"a": 1}, "circuits": {"x": [1]}, "settings": 7, "new": {}}'],
)
async def test_a_status_of_another_version_hides_nobody(store: Store, status: str) -> None:
    """What cannot be read is not known."""
    record = await told(store, "w", status)

    assert (record.in_flight, list(record.paused), record.circuits, record.settings) == (None, [], {}, None)
