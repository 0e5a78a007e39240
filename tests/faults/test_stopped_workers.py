"""Workers that a platform stops with SIGTERM, and kills before their job has ended."""

from __future__ import annotations

import functools
import json
import signal
from typing import Any

import pytest
from sqlalchemy import text

from tests.faults.jobs import SIGNATURE, message_id_of, text_of
from tests.faults.rooms import room, until
from tests.faults.stage import Stage
from tests.faults.workers import Life
from tests.support.caller import Caller
from worker.store.database import connect

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(240)]

_SETTINGS = {
    "delays_seconds": "0.3,1",
    "lease_seconds": "2",
    "lm_timeout_seconds": "100",
    "job_timeout_seconds": "110",
    "drain_seconds": "120",
}
_BODY = {"args": {"signature": SIGNATURE, "fallback": "never", "inputs": {"text": text_of(1)}}}
_COUNTS = "SELECT stop_noted_ms IS NOT NULL AS is_noted, stops, crashes FROM jobs WHERE job_key = :key"


async def counts(stage: Stage) -> tuple[bool, int, int]:
    """Return whether a stop is noted in the job's row, and its stops and crashes."""
    database = connect(stage.store_url)
    try:
        row = await database.read(lambda connection: connection.execute(text(_COUNTS), {"key": message_id_of(1)}).one())
    finally:
        await database.close()
    return bool(row[0]), row[1], row[2]


async def is_noted(stage: Stage) -> bool:
    return (await counts(stage))[0]


async def deploy(stage: Stage, life: Life) -> None:
    """Stop a worker as a platform does that gives it no time: told first, and killed once that is on record."""
    life.send(signal.SIGTERM)
    await until(lambda: is_noted(stage))
    await life.kill()


async def reply_of(caller: Caller, job: str) -> dict[str, Any]:
    return dict(json.loads((await caller.reply(job, patience_seconds=60)).body))


async def test_three_deployments_in_one_long_job_do_not_end_it(stage: Stage) -> None:
    """SIGTERM, then SIGKILL, three times: the fourth worker runs it, alone, and it is answered with its result."""
    async with room(stage, **_SETTINGS) as own, Caller(own.node.url, own.namespace) as caller:
        own.lm.hold()
        life = await own.workers.start()
        job = await caller.publish("execute", _BODY, message_id=message_id_of(1), delivery_mode=2)
        for number in range(1, 4):
            await own.lm.reach(number)
            await deploy(own, life)
            life = await own.workers.start()
        await own.lm.reach(4)
        found = await counts(own)
        own.lm.let_go()
        reply = await reply_of(caller, job)
        code = await life.stop()

    assert (found, code) == ((False, 3, 0), 0)
    assert life.text().count('"event": "job.isolated"') == 1
    assert reply["success"], reply


async def test_a_job_that_never_ends_in_time_ends_with_what_to_do(stage: Stage) -> None:
    """After as many stops as the setting allows, and with no run more."""
    async with room(stage, **_SETTINGS, max_stops="4") as own, Caller(own.node.url, own.namespace) as caller:
        own.lm.hold()
        life = await own.workers.start()
        job = await caller.publish("execute", _BODY, message_id=message_id_of(1), delivery_mode=2)
        for number in range(1, 5):
            await own.lm.reach(number)
            await deploy(own, life)
            life = await own.workers.start()
        reply = await reply_of(caller, job)
        letter = await caller.dead_letter("execute")
        await life.stop()

    assert reply["error_detail"]["code"] == letter.headers["x-dspex-code"] == "worker_lost"
    assert "stopped and then killed its worker 4 times" in reply["error"]
    assert "terminationGracePeriodSeconds" in reply["error"]

    assert len(own.lm.calls) == 4


async def test_a_job_that_freezes_each_worker_that_it_meets_is_taken_for_the_killer(stage: Stage) -> None:
    """A loop that stands still hears no signal, so nothing is on record: such a death is a crash, and three are the end."""
    async with room(stage, **_SETTINGS) as own, Caller(own.node.url, own.namespace) as caller:
        life = await own.workers.start(failpoint="lm.acall:before@1=block:600")
        job = await caller.publish("execute", _BODY, message_id=message_id_of(1), delivery_mode=2)
        for number in range(3):
            await until(functools.partial(_is_run_by_one_more, own, number))
            life.send(signal.SIGTERM)
            await life.kill()
            is_last = number == 2
            life = await own.workers.start(failpoint="" if is_last else "lm.acall:before@1=block:600")
        reply = await reply_of(caller, job)
        found = await counts(own)
        await life.stop()

    assert (found, len(own.lm.calls)) == ((False, 0, 3), 0)

    assert reply["error_detail"]["code"] == "worker_lost"


async def _is_run_by_one_more(stage: Stage, crashes: int) -> bool:
    """Tell whether the job is running in a worker that took it over from so many dead ones."""
    database = connect(stage.store_url)
    statement = "SELECT count(*) FROM jobs WHERE state = 'running' AND crashes = :crashes"
    try:
        found = await database.read(lambda c: c.execute(text(statement), {"crashes": crashes}).scalar_one())
    finally:
        await database.close()
    return bool(found)
