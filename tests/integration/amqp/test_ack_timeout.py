"""A job that takes longer than the broker waits for its ack."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from local_services import temporary_folder
from rabbit_node import RabbitNode

from tests.integration.amqp.conftest import until, until_depth
from tests.integration.conftest import StartWorker
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub
from worker import telemetry

pytestmark = pytest.mark.timeout(120)

_THREE_SECONDS = (
    "application:set_env(rabbit,consumer_timeout,3000),application:set_env(rabbit,channel_tick_interval,1000)."
)


@pytest.fixture(scope="module")
def amqp_url() -> Iterator[str]:
    """A broker that takes a message back after three seconds."""
    with temporary_folder() as folder, RabbitNode(folder / "rabbitmq") as node:
        node.ctl("eval", _THREE_SECONDS)
        yield node.url


def joined() -> float:
    return float(telemetry.CLAIMS.labels("here")._value.get())


async def test_jobs_longer_than_the_ack_timeout_are_paid_once_and_answered_once(
    start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The broker closes the channel and delivers again; each new delivery joins the run that goes on in this process."""
    lm_stub.behaviour = lm_stub.hang
    before = joined()
    async with start_worker(lm_timeout_seconds="40", job_timeout_seconds="45", drain_seconds="50") as consumer:
        ids = []
        for number in range(3):
            body = {"args": {"signature": "text -> answer", "fallback": "never", "inputs": {"text": f"job-{number}"}}}
            ids.append(await caller.publish("execute", body, message_id=f"m{number}"))
        await lm_stub.reach(3)
        await until(lambda: joined() >= before + 3)
        lm_stub.released.set()
        replies = [json.loads((await caller.reply(correlation_id)).body) for correlation_id in ids]
        await until(lambda: consumer.in_flight("execute") == 0)
        await until_depth(caller, "execute", 0)
        await until_depth(caller, "execute.dead", 0)

    assert [reply["result"]["outputs"] for reply in replies] == [{"answer": "42"}] * 3
    assert [caller.waiting(correlation_id) for correlation_id in ids] == [0, 0, 0]
    assert lm_stub.by_job == {0: 1, 1: 1, 2: 1}
