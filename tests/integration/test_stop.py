"""A signal drains whenever a lane is consumed, whatever state the others are in."""

from __future__ import annotations

import asyncio
import json

import pytest
from aio_pika.abc import AbstractConnection

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
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


async def declared(caller: Caller) -> bool:
    """Tell whether the worker has declared the last of its queues."""
    try:
        await caller.depth("delay.500")
    except Exception:  # noqa: BLE001 - whatever the broker says, it is not there yet
        return False
    return True
