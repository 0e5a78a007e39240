"""What a provider may do besides answering: the code that the settlement table names, one bounded time, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tests.faults.jobs import SIGNATURE
from tests.faults.oracle import depths
from tests.faults.rooms import Bench, bench, watching
from tests.faults.stage import Stage
from tests.support.caller import Caller
from tests.support.lm_stub import Behaviour, LMStub, completion, failing, saying

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60)]

MIB = 1024 * 1024
GOOD = "[[ ## label ## ]]\ngood\n\n[[ ## completed ## ]]"
LONG = GOOD.replace("good", "x" * 10 * MIB)
_TIMEOUT_SECONDS = 1.0
_DRIP_SECONDS = 0.05


class Drip(web.StreamResponse):
    """A response of spaces, one at a time, that never ends; each comes well within any time-out between two bytes."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.content_type = "application/json"
        writer = await super().prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await self.write(b" ")
                await asyncio.sleep(_DRIP_SECONDS)
        return writer


class Torn(web.StreamResponse):
    """A response whose connection ends in the middle of its body."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        body = completion(GOOD).body
        assert isinstance(body, bytes)
        self.content_type, self.content_length = "application/json", len(body)
        writer = await super().prepare(request)
        await self.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return writer


def giving(response: type[web.StreamResponse]) -> Behaviour:
    """Return a behaviour that makes such a response for each call."""

    async def give(prompt: str, call: int) -> web.StreamResponse:
        return response()

    return give


def body(text: str, content_type: str = "application/json") -> Behaviour:
    """Return a behaviour whose responses are 200 and hold this text."""

    async def give(prompt: str, call: int) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type)

    return give


def answer(**changes: Any) -> Behaviour:
    """Return a behaviour whose completions have a message that differs."""
    response = completion(GOOD)
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    document["choices"][0]["message"] |= changes
    return body(json.dumps(document))


@dataclass(frozen=True)
class Fault:
    """One fault and its end.

    Attributes:
        behaviour: What the LM does.
        code: Of the reply; ``ok`` for a success.
        calls: LM calls: a quick second one where the provider failed, none else with one attempt and no repair.
    """

    behaviour: Behaviour = field(repr=False)
    code: str
    calls: int = 1


FAULTS = {
    "drip": Fault(giving(Drip), "lm_timeout"),
    "torn": Fault(giving(Torn), "lm_unavailable", 2),
    "no body": Fault(body(""), "lm_unavailable", 2),
    "a page": Fault(body("<html>Bad gateway</html>", "text/html"), "lm_unavailable", 2),
    "half a document": Fault(body('{"choices": [{"mess'), "lm_unavailable", 2),
    "no choices": Fault(body(json.dumps({"object": "chat.completion", "choices": []})), "output_invalid"),
    "another document": Fault(body("[1, 2]"), "lm_unavailable", 2),
    "an error with 200": Fault(body(json.dumps({"error": {"message": "overloaded"}})), "lm_unavailable", 2),
    "null": Fault(answer(content=None), "output_invalid"),
    "empty": Fault(answer(content=""), "output_invalid"),
    "spaces": Fault(answer(content=" \n" * 1_000), "output_invalid"),
    "garbage": Fault(saying("no sections"), "output_invalid"),
    "half an answer": Fault(saying("[[ ## label ## ]]\ngo", finish_reason="length"), "output_invalid"),
    "refusal": Fault(answer(content=None, refusal="I cannot help"), "lm_invalid_request"),
    "content filter": Fault(saying("", finish_reason="content_filter"), "lm_invalid_request"),
    "10 MB of garbage": Fault(saying("x" * 10 * MIB), "output_invalid"),
    "10 MB of answer": Fault(saying(LONG), "ok"),
    "10 MB of error": Fault(failing(500, code="x" * 10 * MIB), "lm_unavailable", 2),
    "429": Fault(failing(429), "lm_rate_limited"),
    "429 with Retry-After": Fault(failing(429, headers={"Retry-After": "1"}), "lm_rate_limited"),
    "429 with a wrong Retry-After": Fault(failing(429, headers={"Retry-After": "soon"}), "lm_rate_limited"),
    "500": Fault(failing(500), "lm_unavailable", 2),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", name="bench")
async def worker_bench(stage: Stage) -> AsyncIterator[Bench]:
    """A single attempt for each job and no repair."""
    settings = {"max_attempts": "1", "max_repairs": "0", "lm_timeout_seconds": f"{_TIMEOUT_SECONDS}"}
    async with bench(stage, LMStub(), **settings) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def caller(bench: Bench) -> AsyncIterator[Caller]:
    async with watching(bench) as caller:
        yield caller


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_the_lm_ends_its_job_as_the_table_says(name: str, bench: Bench, caller: Caller) -> None:
    """Reply and dead letter with the code, in bounded time; the next job is answered."""
    fault = FAULTS[name]
    bench.lm.behaviour = fault.behaviour
    before, began = bench.lm.calls, time.monotonic()
    reply = await caller.call("execute", request(), message_id=name)
    calls, seconds = bench.lm.calls - before, time.monotonic() - began
    letter = await caller.dead_letter("execute") if fault.code != "ok" else None
    bench.lm.behaviour = saying(GOOD)
    healthy = await caller.call("execute", request(), message_id=f"after {name}")

    assert (code_of(reply), calls) == (fault.code, fault.calls), reply
    assert letter is None or letter.headers["x-dspex-code"] == fault.code
    assert code_of(healthy) == "ok"
    assert seconds < 2 * _TIMEOUT_SECONDS + 3
    assert await depths(bench.stage, bench.stage.dead_queues) == dict.fromkeys(bench.stage.dead_queues, 0)


def request() -> dict[str, Any]:
    return {"args": {"signature": SIGNATURE, "fallback": "never", "inputs": {"text": "x"}}}


def code_of(reply: dict[str, Any]) -> str:
    return "ok" if reply["success"] else str(reply["error_detail"]["code"])
