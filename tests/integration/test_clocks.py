"""Callers whose clocks are wrong, and jobs that have really waited for too long."""

from __future__ import annotations

import json
import time
from typing import Any

from aiohttp import web

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from tests.support.processes import WorkerProcess, clean_environment

_BODY = {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": "one"}}}
_TIMEOUT_MS = 60_000
_BEHIND_MS = 300_000


def clock(*, behind_ms: int, has_timeout: bool = True) -> dict[str, Any]:
    """Return what a client sends whose clock is behind, with a time-out of a minute."""
    sent_ms = time.time_ns() // 1_000_000 - behind_ms
    headers = {"x-dspex-deadline": sent_ms + _TIMEOUT_MS}
    return {
        "headers": headers | ({"x-dspex-timeout": _TIMEOUT_MS} if has_timeout else {}),
        "timestamp": sent_ms // 1_000,
        "delivery_mode": 2,
    }


async def test_a_job_of_a_caller_whose_clock_is_behind_runs(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Five minutes, with a time-out of one: the time-out counts, and the reply says what is wrong."""
    async with start_worker():
        reply = await caller.call("execute", _BODY, **clock(behind_ms=_BEHIND_MS), message_id="m1")

    assert reply["success"], reply
    [warning] = reply["result"]["warnings"]
    assert warning.startswith("clock_skew: the sender's clock is 5 min ")

    assert lm_stub.calls == 1


async def test_a_job_of_a_caller_whose_clock_is_ahead_says_so(start_worker: StartWorker, caller: Caller) -> None:
    """It would be kept alive when its caller has long given up."""
    async with start_worker():
        reply = await caller.call("execute", _BODY, **clock(behind_ms=-_BEHIND_MS), message_id="m1")

    [warning] = reply["result"]["warnings"]
    assert warning.startswith("clock_skew: the sender's clock is 4 min 59 s ahead of the worker's")


async def test_a_deadline_alone_holds_as_it_is_and_the_sentence_tells_how_late(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Nothing tells a wrong clock from a long wait."""
    async with start_worker():
        reply = await caller.call("execute", _BODY, **clock(behind_ms=_BEHIND_MS, has_timeout=False), message_id="m1")

    assert reply["error_detail"]["code"] == "expired"
    assert reply["error"].startswith("The job's deadline passed 4 min 0 s before it was started, by the worker's clock")
    assert "it was sent 5 min" in reply["error"]

    assert lm_stub.calls == 0


async def test_a_backlog_whose_callers_have_given_up_expires_at_no_cost(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """All workers were away: these jobs look as those of a wrong clock do, and their clocks are right."""
    async with start_worker():
        pass
    jobs = [await caller.publish("execute", _BODY, **clock(behind_ms=_BEHIND_MS)) for _ in range(5)]
    async with start_worker(concurrency="2"):
        replies = [json.loads((await caller.reply(job)).body) for job in jobs]

    assert [reply["error_detail"]["code"] for reply in replies] == ["expired"] * 5
    assert lm_stub.calls == 0


async def test_a_retry_keeps_the_deadline_that_was_found(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """Its copy carries it; else the second delivery would be too late."""

    async def limit_once(prompt: str, call: int) -> web.StreamResponse:
        return web.Response(status=429) if call == 1 else await lm_stub.answer(prompt, call)

    lm_stub.behaviour = limit_once
    async with start_worker():
        reply = await caller.call("execute", _BODY, **clock(behind_ms=_BEHIND_MS), message_id="m1")

    assert reply["success"], reply
    assert (reply["result"]["attempts"], lm_stub.calls) == (2, 2)


async def test_a_job_that_was_begun_runs_on_in_the_next_worker(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub
) -> None:
    """Killed in the LM call: the broker brings the job as it was sent, and its row tells that it was not too late."""
    # Longer than a worker takes to start: the job takes a hop on the ladder before it may be taken over.
    patient = {
        "DSPEX_LEASE_SECONDS": "8",
        "DSPEX_LM_TIMEOUT_SECONDS": "30",
        "DSPEX_JOB_TIMEOUT_SECONDS": "60",
        "DSPEX_DRAIN_SECONDS": "70",
    }
    worker = WorkerProcess(clean_environment() | environment | patient)
    await worker.start()
    lm_stub.behaviour = lm_stub.hang
    job = await caller.publish("execute", _BODY, **clock(behind_ms=_BEHIND_MS), message_id="m1")
    await lm_stub.reach(1)
    await worker.kill()
    lm_stub.behaviour = lm_stub.answer
    await worker.start()
    reply = json.loads((await caller.reply(job)).body)
    await worker.stop()

    assert reply["success"], reply
