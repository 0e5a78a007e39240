"""A signal drains whenever a lane is consumed, and ends in time, whatever hangs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from aio_pika.abc import AbstractConnection
from sqlalchemy import make_url

from tests.faults.proxy import Proxy
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.processes import WorkerProcess, clean_environment
from worker import server
from worker.amqp.errors import ConnectionLostError
from worker.amqp.lane import LaneConsumer
from worker.settings import load


async def test_a_stop_while_a_lane_is_not_up_yet_lets_running_jobs_end(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control queue does not answer, as one does whose node was killed too soon; a job of another lane is paid for."""
    consume = LaneConsumer.consume

    async def consume_some(lane: LaneConsumer, connection: AbstractConnection) -> None:
        if lane.lane == "control":
            raise ConnectionLostError("the control queue does not answer")
        await consume(lane, connection)

    stop = asyncio.Event()
    monkeypatch.setattr(LaneConsumer, "consume", consume_some)
    monkeypatch.setattr(server, "_stop_on_signals", lambda: stop)
    lm_stub.behaviour = lm_stub.hang
    clocks = {"DSPEX_LM_TIMEOUT_SECONDS": "20", "DSPEX_JOB_TIMEOUT_SECONDS": "25", "DSPEX_DRAIN_SECONDS": "30"}
    serving = asyncio.create_task(server.serve(load(environment | clocks)))
    async with asyncio.timeout(20):
        while not await declared(caller):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
    body = {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": "one"}}}
    job = await caller.publish("execute", body, message_id="m1")
    await lm_stub.reach(1)
    stop.set()
    lm_stub.released.set()
    reply = json.loads((await caller.reply(job)).body)
    code = await serving

    assert reply["result"]["outputs"] == {"answer": "42"}
    assert (lm_stub.calls, await caller.depth("execute")) == (1, 0)

    assert code == 0


# What docker-compose.yml leaves beyond the drain is 15 seconds; a busy machine needs some for itself.
_MOST_SECONDS = 12.0


async def stop_timed(worker: WorkerProcess) -> tuple[int, float]:
    """End a worker, and return its exit code and how long that took."""
    began = time.monotonic()
    code = await worker.stop()
    return code, time.monotonic() - began


@pytest.mark.parametrize("setting", ["DSPEX_STORE_URL", "DSPEX_AMQP_URL"])
async def test_an_idle_worker_stops_in_time_while_a_server_hangs(
    environment: dict[str, str], postgres_url: str, setting: str
) -> None:
    """PostgreSQL's pool, consumers and connections: none is waited for, and ten seconds each outlast any supervisor."""
    url = {**environment, "DSPEX_STORE_URL": postgres_url}[setting]
    async with Proxy(make_url(url).port or 0) as proxy:
        worker = WorkerProcess(clean_environment() | environment | {setting: proxy.url(url)})
        await worker.start()
        proxy.swallow()

        code, seconds = await stop_timed(worker)
        proxy.flow()

    assert code == 0
    assert seconds < _MOST_SECONDS


@pytest.mark.timeout(120)
async def test_a_worker_stops_in_time_with_a_result_that_cannot_be_stored(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub, tmp_path: Path
) -> None:
    """The file is locked: after drain and grace the job goes back to the broker, and the next worker answers it."""
    settings = {"DSPEX_DRAIN_SECONDS": "6"}
    worker = WorkerProcess(clean_environment() | environment | settings)
    await worker.start()
    lm_stub.behaviour = lm_stub.hang
    body = {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": "one"}}}
    job = await caller.publish("execute", body, message_id="m1")
    await lm_stub.reach(1)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        lm_stub.released.set()
        code, seconds = await stop_timed(worker)
        holder.execute("ROLLBACK")
    lm_stub.behaviour = lm_stub.answer
    await worker.start()
    reply = json.loads((await caller.reply(job)).body)
    await worker.stop()

    assert reply["result"]["outputs"] == {"answer": "42"}
    assert code == 1
    assert seconds < 6 + _MOST_SECONDS


async def declared(caller: Caller) -> bool:
    """Tell whether the worker has declared the last of its queues."""
    try:
        await caller.depth("delay.500")
    except Exception:  # noqa: BLE001 - whatever the broker says, it is not there yet
        return False
    return True
