"""``dspex-worker workers``, the installed command, on workers of which one has troubles of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing
from tests.support.processes import COMMAND, WorkerProcess, worker_environment
from worker import __version__
from worker.message import LANES

SPARE = '{"spare": {"model": "openai/gpt-4o-mini", "api_key": "sk-test"}}'


@pytest.fixture
def environment(amqp_url: str, namespace: str, lm_stub: LMStub, tmp_path: Path) -> dict[str, str]:
    return worker_environment(
        lm_stub.url,
        amqp_url=amqp_url,
        namespace=namespace,
        store_url=f"sqlite:///{tmp_path}/store.db",
        lease_seconds="2",
    )


@pytest.fixture
async def worker(environment: dict[str, str]) -> AsyncIterator[WorkerProcess]:
    process = WorkerProcess(environment)
    await process.start()
    yield process
    await process.kill()


async def listed(environment: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "workers", "--json"), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, said = await process.communicate()
    assert process.returncode is not None, said
    return process.returncode, json.loads(output)["workers"]


async def until(environment: dict[str, str], is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """List the workers until they are as expected: heartbeats lag."""
    async with asyncio.timeout(50):
        while True:
            _, workers = await listed(environment)
            if is_so(workers):
                return workers


@pytest.mark.timeout(120)
async def test_workers_tell_their_version_their_pauses_and_their_open_circuits(
    environment: dict[str, str], worker: WorkerProcess, caller: Caller, lm_stub: LMStub
) -> None:
    """The LM refuses the key, so its only alias is down and execute is paused; who asks learns it from the queue."""
    pong = await caller.call("control", {"command": "ping"})
    code, _ = await listed(environment)
    [idle] = await until(environment, lambda workers: workers[0]["settings"] is not None)
    lm_stub.behaviour = failing(401)
    await caller.publish("execute", {"args": {"signature": "a -> b", "inputs": {"a": "x"}}}, message_id="m")
    [troubled] = await until(environment, lambda workers: bool(workers[0]["paused"]))
    start = json.loads(worker.log.splitlines()[0])

    assert code == 0
    assert (set(idle["in_flight"]), idle["paused"], idle["circuits"]) == (set(LANES), [], {})
    assert idle["worker_id"] == pong["result"]["worker_id"] == start["worker"]
    assert idle["version"] == pong["result"]["version"] == start["version"] == __version__
    assert troubled["paused"] == [{"reason": "every LM is down", "lanes": ["execute"]}]
    assert troubled["circuits"]["default"]["code"] == "lm_auth"


@pytest.mark.timeout(120)
async def test_who_has_other_settings_is_marked_and_who_died_is_lost(
    environment: dict[str, str], worker: WorkerProcess
) -> None:
    """Concurrency is a worker's own, the LMs are not; with nobody left, the store tells, and the exit code is 2."""
    same = WorkerProcess(environment | {"DSPEX_CONCURRENCY": "2"})
    odd = WorkerProcess(environment | {"DSPEX_LMS": SPARE})
    await asyncio.gather(same.start(), odd.start())
    workers = await until(environment, lambda workers: [one["settings"] for one in workers].count(None) == 0)
    differing = [one for one in workers if one["differs"] == ["settings"]]
    await asyncio.gather(same.kill(), odd.kill(), worker.kill())
    lost = await until(environment, lambda workers: all(one["state"] == "lost" for one in workers))
    code, _ = await listed(environment)

    assert (len(workers), len(differing), len(lost), code) == (3, 1, 3, 2)
    assert "sk-test" not in json.dumps(workers)
