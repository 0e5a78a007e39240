"""Two installed workers, each killed with -9 under load and started again: nothing lost, nothing paid twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, chat_text, completion
from tests.support.processes import WorkerProcess, worker_environment

JOBS = 2_000
CONCURRENCY = 16
SIGNATURE = "text -> label: string, score: float"


@pytest.fixture
async def lm_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    await stub.start()

    async def answer_after_a_turn(prompt: str, call: int) -> web.StreamResponse:
        # Long enough that some calls are always in flight when a worker is killed.
        await asyncio.sleep(0.05)
        return completion(chat_text({"label": "good", "score": "0.5"}))

    stub.behaviour = answer_after_a_turn
    yield stub
    await stub.stop()


@pytest.fixture
async def workers(amqp_url: str, namespace: str, lm_stub: LMStub, tmp_path: Path) -> AsyncIterator[list[WorkerProcess]]:
    environment = worker_environment(
        lm_stub.url,
        amqp_url=amqp_url,
        namespace=namespace,
        store_url=f"sqlite:///{tmp_path}/store.db",
        concurrency=str(CONCURRENCY),
        lease_seconds="2",
        delays_seconds="0.3,1",
    )
    started = [WorkerProcess(environment) for _ in range(2)]
    for worker in started:
        await worker.start()
    yield started
    for worker in started:
        await worker.stop()


def job(number: int) -> dict[str, Any]:
    return {"id": number, "args": {"program_id": "label", "inputs": {"text": f"job-{number}"}}}


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_job_is_answered_though_both_workers_are_killed(
    workers: list[WorkerProcess], amqp_url: str, namespace: str, lm_stub: LMStub
) -> None:
    """2,000 jobs, two kills: every reply valid and matched; LM calls repeated only for jobs in flight at a kill."""
    in_flight: set[int] = set()
    replies: dict[int, dict[str, Any]] = {}
    async with Caller(amqp_url, namespace) as caller:
        await caller.create(SIGNATURE, id="label")
        for number in range(JOBS):
            await caller.publish("execute", job(number), correlation_id=str(number), message_id=f"m{number}")

        async def collect() -> None:
            for number in range(JOBS):
                # A job that comes back over the ladder stands behind all the others again.
                message = await caller.reply(str(number), patience_seconds=200)
                replies[number] = json.loads(message.body)

        collecting = asyncio.create_task(collect())
        for worker, calls in zip(workers, (JOBS // 4, JOBS // 2), strict=True):
            await lm_stub.reach(calls)
            await worker.kill()
            in_flight |= set(lm_stub.by_job) - caller.answered
            await worker.start()
        await collecting
        left = [await caller.depth(queue) for queue in ("execute", "execute.dead")]

    repeated = {number for number, calls in lm_stub.by_job.items() if calls > 1}
    assert all(reply["success"] and reply["id"] == number for number, reply in replies.items())
    assert all(reply["result"]["outputs"] == {"label": "good", "score": 0.5} for reply in replies.values())
    assert left == [0, 0]
    assert repeated <= in_flight
    assert len(repeated) <= 2 * CONCURRENCY

    assert len(replies) == JOBS
