"""Who runs a job when workers stand still, are frozen, or start all at once."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.faults.jobs import SIGNATURE, message_id_of, text_of
from tests.faults.load import Load
from tests.faults.oracle import Expected, judge
from tests.faults.rooms import emptied, room, until
from tests.faults.rows import Row, read_rows
from tests.faults.stage import Stage
from tests.faults.workers import Life

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(120)]

# The broker takes a worker for dead after two silent seconds, the others do after two without a beat of its thread.
_SETTINGS = {"delays_seconds": "0.3,1", "lease_seconds": "2", "lm_timeout_seconds": "20", "job_timeout_seconds": "25"}
# Three leases, as 30 s are of the default one.
_STANDSTILL_SECONDS = 6


def body_of(number: int) -> dict[str, Any]:
    inputs = {"text": text_of(number)}
    return {"id": number, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": inputs}}


async def start(stage: Stage, **options: str) -> Life:
    return await stage.workers.start(amqp_url=f"{stage.node.url}?heartbeat=1", **options)


async def finished(stage: Stage, load: Load, *lives: Life, expected: Expected | None = None) -> list[int]:
    """Wait for every reply, stop the workers, ask the oracle and return how often each job was answered."""
    await load.replied()
    await emptied(stage)
    assert [await life.stop() for life in lives] == [0] * len(lives)
    await judge(stage, load, expected=expected)
    return [job.replies for job in load.jobs.values()]


async def row_of(stage: Stage, number: int) -> Row:
    [row] = [row for row in await read_rows(stage.store_url, stage.namespace) if row.job_key == message_id_of(number)]
    return row


async def test_a_worker_whose_loop_stands_still_keeps_its_job(stage: Stage) -> None:
    """Longer than the lease and the broker's patience, its result not stored yet: its thread beats, so others wait."""
    async with room(stage, **_SETTINGS) as own, own.load() as load:
        first = await start(own, failpoint=f"store.finish:before@1=block:{_STANDSTILL_SECONDS}")
        await load.publish([1], make_body=body_of)
        await until(lambda: _is_running(own))
        second = await start(own)
        await finished(own, load, first, second)
        row = await row_of(own, 1)

    assert row.crashes == 0
    assert {call.caller for call in own.lm.calls} == {first.key}
    assert own.lm.by_job == {1: 1}
    assert first.text().count('"event": "consuming.started"') > 1, "the broker never took the worker for dead"


async def _is_running(stage: Stage) -> bool:
    return any(row.state == "running" for row in await read_rows(stage.store_url, stage.namespace))


@pytest.mark.parametrize("is_frozen_one_first", [True, False])
async def test_a_frozen_worker_loses_its_job_once_and_the_first_success_wins(
    stage: Stage, is_frozen_one_first: bool
) -> None:
    """SIGSTOP, longer than the lease: two runs, one result, and both send the same bytes, whoever comes late."""
    async with room(stage, **_SETTINGS) as own, own.load() as load:
        own.lm.hold()
        first = await start(own)
        await load.publish([1], make_body=body_of)
        await own.lm.reach(1)
        first.send(signal.SIGSTOP)
        second = await start(own)
        await own.lm.reach(2)
        lives = [first, second] if is_frozen_one_first else [second, first]
        for life in lives:
            if life is first:
                first.send(signal.SIGCONT)
            own.lm.let_go(caller=life.key)
            await load.replied(stall_seconds=20)
        own.lm.let_go()
        await finished(own, load, first, second, expected=Expected(is_paid_once=False))
        row = await row_of(own, 1)

    assert (row.crashes, row.outcome) == (1, "success")
    assert [call.caller for call in own.lm.calls] == [first.key, second.key]
    assert len(load.jobs[1].answers) == 1


async def test_eight_workers_that_start_at_once_share_the_jobs(stage: Stage) -> None:
    """On an empty broker and an empty store: no declaration is in another's way, and each job has one claim."""
    numbers = range(40)
    async with room(stage, **_SETTINGS) as own, own.load() as load:
        lives = await asyncio.gather(*(own.workers.start() for _ in range(8)))
        await load.publish([*numbers, *numbers], make_body=body_of)
        await finished(own, load, *lives)

    assert own.lm.by_job == dict.fromkeys(numbers, 1)
