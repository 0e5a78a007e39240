"""LMs that are down, with whole workers on the real broker: the queue waits, and nothing is dead-lettered."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import Behaviour, LMStub, completion, failing
from worker.amqp.consumer import Consumer
from worker.server import running
from worker.settings import load
from worker.telemetry import CONSUMING_PAUSED

PROBE = "ping"


class Outage:
    """What an LM does while it is down, until it is over.

    Attributes:
        probed: Set by each probe of the worker.
        job_calls: Calls that jobs made meanwhile.
    """

    def __init__(self, lm: LMStub, trouble: Behaviour) -> None:
        self._lm = lm
        self._trouble = trouble
        self.probed = asyncio.Event()
        self.job_calls = 0
        lm.behaviour = self.act

    async def act(self, prompt: str, call: int) -> web.StreamResponse:
        if prompt == PROBE:
            self.probed.set()
        else:
            self.job_calls += 1
        return await self._trouble(prompt, call)

    async def next_probe(self) -> None:
        """Wait until the worker asks whether the LM is back."""
        self.probed.clear()
        await self.probed.wait()

    def end(self) -> None:
        self._lm.behaviour = _answer


async def _answer(prompt: str, call: int) -> web.StreamResponse:
    return completion("[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]")


@pytest.fixture
async def other_stub() -> AsyncIterator[LMStub]:
    stub = LMStub()
    await stub.start()
    yield stub
    await stub.stop()


def job(number: int, **options: Any) -> dict[str, Any]:
    return {
        "args": {"signature": "question -> answer", "inputs": {"question": f"job-{number}"}, "options": options},
    }


async def publish(caller: Caller, numbers: range, **options: Any) -> list[str]:
    return [
        await caller.publish("execute", job(number, **options), correlation_id=str(number), message_id=f"m-{number}")
        for number in numbers
    ]


async def replies(caller: Caller, ids: list[str]) -> list[dict[str, Any]]:
    return [json.loads((await caller.reply(one)).body) for one in ids]


def failed(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [body for body in bodies if not body["success"]]


@contextlib.asynccontextmanager
async def worker(environment: dict[str, str], name: str, **changes: str) -> AsyncIterator[Consumer]:
    settings = load(environment | {f"DSPEX_{key.upper()}": text for key, text in changes.items()})
    async with running(settings, worker_id=name) as consumer:
        await consumer.begun()
        yield consumer
        await consumer.drain(settings.drain)


async def test_a_wrong_key_on_one_worker_of_two_harms_no_job(
    environment: dict[str, str], caller: Caller, lm_stub: LMStub, other_stub: LMStub
) -> None:
    """It must not attract the queue and kill it: what it took goes back, and the good one answers everything."""
    lm_stub.behaviour = _answer
    refused = Outage(other_stub, failing(401))
    async with worker(environment, "bad", lm_api_base=other_stub.url, concurrency="4"):
        first = await publish(caller, range(4))
        await refused.next_probe()
        async with worker(environment, "good", concurrency="4"):
            bodies = await replies(caller, first + await publish(caller, range(4, 40)))

    assert (len(bodies), failed(bodies)) == (40, [])
    assert await caller.depth("execute.dead") == 0
    assert refused.job_calls <= 4


@pytest.mark.parametrize("trouble", [failing(500), failing(404, code="model_not_found")], ids=["outage", "no model"])
async def test_an_outage_is_waited_for(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, trouble: Behaviour
) -> None:
    """Two attempts would be allowed: none is spent while the circuit is open, nobody asks but the worker itself."""
    outage = Outage(lm_stub, trouble)
    async with start_worker(concurrency="4") as consumer:
        ids = await publish(caller, range(8))
        await outage.next_probe()
        calls_at_opening = outage.job_calls
        ids += await publish(caller, range(8, 16))
        await outage.next_probe()
        seen = (outage.job_calls, CONSUMING_PAUSED.labels("execute")._value.get(), consumer.in_flight("execute"))
        waiting = await caller.depth("execute")
        outage.end()
        bodies = await replies(caller, ids)

    assert seen == (calls_at_opening, 1, 0)
    assert waiting >= 8
    assert calls_at_opening <= 16
    assert (len(bodies), failed(bodies)) == (16, [])
    assert await caller.depth("execute.dead") == 0
    assert max(body["result"]["attempts"] for body in bodies) <= 3


async def test_one_lm_of_two_that_is_down_holds_up_nobody_else(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, other_stub: LMStub
) -> None:
    """The lane stays open: its jobs hop, those of the other LM are answered at once."""
    outage = Outage(lm_stub, failing(401))
    other_stub.behaviour = _answer
    fast = {"model": "openai/gpt-4o-mini", "api_base": other_stub.url, "api_key": "k", "structured_outputs": "false"}
    async with start_worker(lms=json.dumps({"fast": fast}), concurrency="4"):
        held = await publish(caller, range(10))
        await outage.next_probe()
        bodies = await replies(caller, await publish(caller, range(10, 30), lm="fast"))
        calls = outage.job_calls
        outage.end()
        bodies += await replies(caller, held)

    assert (len(bodies), failed(bodies)) == (30, [])
    assert calls <= 4
    assert await caller.depth("execute.dead") == 0


async def test_a_job_that_grows_too_old_ends_with_the_lms_own_code(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub, other_stub: LMStub
) -> None:
    """Reply and dead letter, and one call, however often it came back; with every LM down it would stay in its queue."""
    outage = Outage(lm_stub, failing(401))
    spare = {"model": "openai/gpt-4o-mini", "api_base": other_stub.url, "api_key": "k"}
    async with start_worker(max_age_seconds="0.45", lms=json.dumps({"spare": spare})):
        [body] = await replies(caller, await publish(caller, range(1)))
        letter = await caller.dead_letter("execute")

    assert body["error_detail"]["code"] == letter.headers["x-dspex-code"] == "lm_auth"
    assert outage.job_calls == 1
