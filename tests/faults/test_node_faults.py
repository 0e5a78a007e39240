"""A broker that goes away in order, is absent when a worker starts, or dies while messages expire on the ladder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.chaos import SETTLED_SECONDS
from tests.faults.jobs import SIGNATURE, text_of
from tests.faults.lm_stub import Trouble
from tests.faults.oracle import depths, judge
from tests.faults.rooms import room, until
from tests.faults.stage import Stage

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node_stage() -> AsyncIterator[Stage]:
    """A node that may go away; no other test uses it."""
    async with Stage.open(settings={"delays_seconds": "0.5,2"}) as stage:
        yield stage


def body_of(number: int) -> dict[str, Any]:
    inputs = {"text": text_of(number)}
    return {"id": number, "args": {"signature": SIGNATURE, "fallback": "never", "inputs": inputs}}


async def test_workers_outlive_a_broker_that_is_stopped_and_wait_for_one_that_is_absent(node_stage: Stage) -> None:
    """No process ends, jobs in hand are paid once, and both the old and the new worker take jobs afterwards."""
    async with room(node_stage) as own, own.load() as load:
        old = await own.workers.start()
        await asyncio.sleep(SETTLED_SECONDS)
        own.lm.hold()
        await load.publish(range(8), make_body=body_of)
        await own.lm.reach(8)
        await asyncio.to_thread(own.node.stop)
        new = await own.workers.start(until="cannot reach the broker")
        own.lm.let_go()
        await own.start_node()
        await new.logged("worker.ready")
        await old.logged("the broker is back")
        own.lm.delay_seconds = 0.1
        await load.publish(range(8, 80), make_body=body_of)
        await load.replied()
        codes = [await life.stop() for life in (old, new)]
        await judge(own, load)

    assert codes == [0, 0]
    assert own.lm.by_job == dict.fromkeys(range(80), 1)
    assert own.lm.by_caller.keys() == {old.key, new.key}


async def test_no_message_is_lost_when_the_node_is_killed_while_the_ladder_expires(node_stage: Stage) -> None:
    """Some have come back and been answered, the others lie on their step or on their way from it."""
    jobs = 200
    async with room(node_stage) as own, own.load() as load:
        own.lm.trouble = Trouble({"429-retry-after": 1.0}, is_first_only=True, retry_after_seconds=2)
        life = await own.workers.start()
        await asyncio.sleep(SETTLED_SECONDS)
        step = f"{own.namespace}.delay.2000"
        await load.publish(range(jobs), make_body=body_of)
        await load.reach(10)
        left = (await depths(own, [step]))[step]
        await own.kill_node()
        await own.start_node()
        await load.replied()
        await until(lambda: _is_empty(own))
        assert await life.stop() == 0
        verdict = await judge(own, load)

    assert left > 0
    assert (verdict.replied, verdict.dead_lettered) == (jobs, 0)


async def _is_empty(stage: Stage) -> bool:
    return not any((await depths(stage, stage.queues)).values())
