"""A job that failed in an outage is sent again by its caller, under the same message id."""

from __future__ import annotations

import json
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aiohttp import web

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.processes import WorkerProcess, clean_environment
from tests.support.replies import without_mark

_BODY = {"id": 1, "args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": "one"}}}


async def send(caller: Caller, **properties: Any) -> AbstractIncomingMessage:
    """Send the job, and return its reply."""
    job = await caller.publish("execute", _BODY, message_id="order-17", delivery_mode=2, **properties)
    return await caller.reply(job)


async def refuse(_prompt: str, _call: int) -> web.Response:
    return web.Response(status=503)


def code_of(reply: AbstractIncomingMessage) -> str:
    body = json.loads(reply.body)
    return "ok" if body["success"] else str(body["error_detail"]["code"])


async def test_a_job_that_failed_in_an_outage_is_run_again_when_its_caller_asks(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub
) -> None:
    """The outage's error is repeated as what it is, a stored one; with the header, the job runs once more, and once only."""
    lm_stub.behaviour = refuse
    worker = WorkerProcess(clean_environment() | environment | {"DSPEX_MAX_ATTEMPTS": "1"})
    await worker.start()
    failed = await send(caller)
    letter = await caller.dead_letter("execute")
    calls_of_outage = lm_stub.calls
    lm_stub.behaviour = lm_stub.answer
    repeated = await send(caller)
    headers = {"x-dspex-rerun": int(str(repeated.headers["x-dspex-generation"]))}
    again, twice = await send(caller, headers=headers), await send(caller, headers=headers)
    await worker.stop()

    assert (code_of(failed), letter.headers["x-dspex-code"]) == ("lm_unavailable", "lm_unavailable")
    assert "x-dspex-stored" not in failed.headers
    assert json.loads(repeated.body)["stored_ms"] == repeated.headers["x-dspex-stored"]
    assert without_mark(repeated.body) == failed.body
    assert repeated.message_id == failed.message_id
    assert (code_of(again), again.headers["x-dspex-generation"]) == ("ok", 1)
    assert (without_mark(twice.body), twice.message_id) == (again.body, again.message_id)
    assert "x-dspex-stored" not in again.headers

    assert lm_stub.calls == calls_of_outage + 1


async def test_the_dead_letter_of_a_rerun_has_its_generation(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """So its replay is the next one; the header that asked for it is gone, for a replay is no rerun."""
    lm_stub.outputs = {}
    async with start_worker(max_repairs="0"):
        failed = await send(caller)
        first = await caller.dead_letter("execute")
        again = await send(caller, headers={"x-dspex-rerun": 0})
        second = await caller.dead_letter("execute")

    assert [code_of(reply) for reply in (failed, again)] == ["output_invalid"] * 2
    assert [letter.headers["x-dspex-generation"] for letter in (first, second)] == [0, 1]

    assert "x-dspex-rerun" not in second.headers


async def test_a_rerun_that_waits_on_the_ladder_stays_the_rerun(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The copies of a retry keep what was asked for."""

    async def limit_once(prompt: str, call: int) -> web.StreamResponse:
        return web.Response(status=429) if call == 2 else await lm_stub.answer(prompt, call)

    lm_stub.outputs = {}
    async with start_worker(max_repairs="0"):
        await send(caller)
        lm_stub.outputs = {"answer": "42"}
        lm_stub.behaviour = limit_once
        again = await send(caller, headers={"x-dspex-rerun": 0})
        kept = await caller.call("control", {"command": "get_result", "args": {"message_id": "order-17"}})

    assert (code_of(again), again.headers["x-dspex-generation"], again.headers["x-dspex-attempts"]) == ("ok", 1, 2)
    assert kept["result"]["generation"] == 1
    assert kept["result"]["reply"] == json.loads(again.body)

    assert lm_stub.calls == 3
