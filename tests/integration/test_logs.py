"""A worker's log hurts no job, is JSON in every line, and quotes nobody."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from child_processes import free_port
from yarl import URL

from tests.faults.proxy import Proxy
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing, in_turn
from tests.support.processes import COMMAND, WorkerProcess, clean_environment

SECRET = "I love it"
CONCURRENCY = 4


@pytest.fixture
def given(environment: dict[str, str]) -> dict[str, str]:
    """The settings of a worker of its own process, without the prefix."""
    settings = {name.removeprefix("DSPEX_").lower(): text for name, text in environment.items()}
    return settings | {"concurrency": str(CONCURRENCY), "max_attempts": "9", "http_port": str(free_port())}


def execute(text: str = "?") -> dict[str, Any]:
    return {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": text}}}


@pytest.fixture(params=["the reader is gone", "the disk is full"])
async def unlogged(
    request: pytest.FixtureRequest, given: dict[str, str], caller: Caller
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that has begun, and whose stderr takes nothing: from its start on, or since its reader went."""
    is_full = request.param == "the disk is full"
    source, target = (-1, os.open("/dev/full", os.O_WRONLY)) if is_full else os.pipe()
    process = await asyncio.create_subprocess_exec(COMMAND, "serve", env=clean_environment(**given), stderr=target)
    os.close(target)
    try:
        if not is_full:
            with os.fdopen(source) as log:
                await asyncio.to_thread(lambda: next(line for line in log if "worker.starting" in line))
        async with asyncio.timeout(50):
            while not await is_ready(given["http_port"]):  # noqa: ASYNC110 - the port tells nobody
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def is_ready(port: str) -> bool:
    try:
        return "ok" in await page(port, "readyz")
    except aiohttp.ClientError:
        return False


async def page(port: str, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as response:
        return await response.text()


@pytest.mark.timeout(120)
async def test_a_log_that_takes_nothing_costs_no_job(
    unlogged: asyncio.subprocess.Process, given: dict[str, str], caller: Caller, lm_stub: LMStub
) -> None:
    """As many jobs as run at once meet an LM that is busy; they and the next one are answered, and the stop is clean."""
    lm_stub.behaviour = in_turn(*[failing(429)] * CONCURRENCY, lm_stub.answer)
    jobs = [await caller.publish("execute", execute(), message_id=f"m{n}") for n in range(CONCURRENCY)]
    replies = [json.loads((await caller.reply(job)).body) for job in jobs]
    replies.append(await caller.call("execute", execute(), message_id="next"))
    metrics = await page(given["http_port"], "metrics")
    unlogged.terminate()
    code = await unlogged.wait()
    [lost] = [line for line in metrics.splitlines() if line.startswith("dspex_log_lines_lost_total ")]

    assert [reply["success"] for reply in replies] == [True] * (CONCURRENCY + 1)
    assert (await caller.depth("execute"), await caller.depth("execute.dead")) == (0, 0)
    assert float(lost.split()[1]) >= CONCURRENCY

    assert code == 0


async def quoting(prompt: str, call: int) -> web.StreamResponse:
    return web.json_response({"error": {"message": f"upstream failed on input: {SECRET}"}}, status=500)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_every_line_is_json_and_quotes_nobody_in_an_outage_too(
    amqp_url: str, given: dict[str, str], caller: Caller, lm_stub: LMStub
) -> None:
    """The provider's error quotes the prompt; then the broker is a black hole, and the worker is stopped."""
    lm_stub.behaviour = quoting
    async with Proxy(URL(amqp_url).port or 5672) as proxy:
        given |= {"amqp_url": proxy.url(amqp_url)}
        given |= {"lm_timeout_seconds": "10", "job_timeout_seconds": "15", "drain_seconds": "16"}
        worker = WorkerProcess(clean_environment(**given | {"log_level": "debug"}))
        await worker.start()
        for n in range(6):
            await caller.publish("execute", execute(SECRET), message_id=f"m{n}")
        await worker.logged("circuit.opened")
        proxy.swallow()
        await worker.stop()
        proxy.flow()
    lines = [json.loads(line) for line in worker.log.splitlines()]
    [opened] = [line for line in lines if line["event"] == "circuit.opened"]

    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert SECRET not in worker.log

    assert (opened["lm"], opened["code"], opened["status"]) == ("default", "lm_unavailable", 500)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_whose_output_nobody_takes_ends_as_it_would(stream: str) -> None:
    """As with ``| head``: no traceback, the command's own exit code. A full disk under stdout is told."""
    command = {"stdout": [COMMAND, "asyncapi", "--offline"], "stderr": [COMMAND, "serve"]}[stream]
    settings = clean_environment(**({} if stream == "stdout" else {"concurrency": "many"}))
    told: list[tuple[int, str]] = []
    source, target = os.pipe()
    os.close(source)
    for output in (target, os.open("/dev/full", os.O_WRONLY)):
        other = {"stdout": "stderr", "stderr": "stdout"}[stream]
        done = subprocess.run(command, env=settings, text=True, **{stream: output, other: subprocess.PIPE})  # type: ignore[call-overload]
        told.append((done.returncode, getattr(done, other)))
        os.close(output)

    assert (
        told
        == {
            "stdout": [(0, ""), (1, "The output cannot be written: No space left on device.\n")],
            "stderr": [(2, ""), (2, "")],
        }[stream]
    )
