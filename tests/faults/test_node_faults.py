"""A broker that goes away in order, and one that is absent when a worker starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.chaos import SETTLED_SECONDS
from tests.faults.jobs import SIGNATURE, text_of
from tests.faults.oracle import judge
from tests.faults.rooms import room, settled
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
        new = await own.workers.start(until="broker.unreachable")
        own.lm.let_go()
        await own.start_node()
        await new.logged("worker.ready")
        await old.logged("broker.back")
        own.lm.delay_seconds = 0.1
        await load.publish(range(8, 80), make_body=body_of)
        await settled(own, load)
        codes = [await life.stop() for life in (old, new)]
        await judge(own, load)

    assert codes == [0, 0]
    assert own.lm.by_job == dict.fromkeys(range(80), 1)
    assert own.lm.by_caller.keys() == {old.key, new.key}
