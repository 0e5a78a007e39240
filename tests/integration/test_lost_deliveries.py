"""A job whose delivery died while it ran is not run before its time by the next one."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web
from yarl import URL

from tests.faults.proxy import Proxy
from tests.integration.amqp.conftest import until, until_depth
from tests.integration.conftest import PATIENT, StartWorker
from tests.integration.test_settlement import GOOD, execute
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub, failing, saying

RETRY_AFTER_SECONDS = 2
# A job may be claimed so much earlier, because the clocks of the broker and the store are not one.
UNEVEN_SECONDS = 0.1


class LimitedOnce:
    """An LM that asks for time at the first call, once it is let go, and answers from then on.

    Attributes:
        times: When a call came, and for the first one when it was refused, in seconds of the loop's clock.
        gate: The first call waits for it.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.gate = asyncio.Event()

    async def act(self, prompt: str, call: int) -> web.StreamResponse:
        if call > 1:
            self.times.append(asyncio.get_running_loop().time())
            return await saying(GOOD)(prompt, call)
        await self.gate.wait()
        self.times.append(asyncio.get_running_loop().time())
        return await failing(429, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})(prompt, call)


async def test_a_retry_keeps_its_time_where_its_delivery_died_during_the_run(
    amqp_url: str, start_worker: StartWorker, caller: Caller, lm_stub: LMStub
) -> None:
    """The broker has the message back before the run ends: no copy is on the ladder, and another worker gets it at once."""
    limited = LimitedOnce()
    lm_stub.behaviour = limited.act
    settings = PATIENT | {"delays_seconds": f"0.2,{RETRY_AFTER_SECONDS}"}
    async with Proxy(URL(amqp_url).port or 5672) as proxy:
        async with start_worker(amqp_url=proxy.url(amqp_url), **settings) as cut_off:
            correlation_id = await caller.publish("execute", execute(), message_id="m1")
            await lm_stub.reach(1)
            await proxy.refuse()
            proxy.reset()
            await until_depth(caller, "execute", 1)
            limited.gate.set()
            await until(lambda: cut_off.in_flight("execute") == 0)
            async with start_worker(**settings):
                reply = await caller.reply(correlation_id)
            await proxy.accept()
        left = [await caller.depth(queue) for queue in ("execute", "execute.dead", "delay.200", "delay.2000")]

    refused, again = limited.times
    assert again - refused >= RETRY_AFTER_SECONDS - UNEVEN_SECONDS
    assert json.loads(reply.body)["result"]["attempts"] == 2

    assert left == [0, 0, 0, 0]
