"""Rooms on a stage: tests that leave the broker alive share one, and each has a namespace, a store and an LM of its own.

A node and a nursery take eight seconds to start, a room a few milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aio_pika

from tests.faults.lm_stub import LMStub
from tests.faults.load import Load
from tests.faults.oracle import depths
from tests.faults.stage import Stage
from tests.faults.workers import Life
from tests.support.caller import Caller
from tests.support.lm_stub import LMStub as BehavingLM

_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.05


@contextlib.asynccontextmanager
async def room(stage: Stage, **settings: str) -> AsyncIterator[Stage]:
    """Set a room inside the block; its workers are killed at the end.

    Args:
        stage: What it shares node and nursery with.
        settings: Settings of its workers without the prefix, on top of the stage's.
    """
    namespace = f"faults-{secrets.token_hex(4)}"
    folder = stage.folder / namespace
    folder.mkdir()
    delays_ms = stage.delays_ms
    if "delays_seconds" in settings:
        delays_ms = tuple(round(float(step) * 1_000) for step in settings["delays_seconds"].split(","))
    async with LMStub(seed=stage.seed) as lm:
        store_url = f"sqlite:///{folder}/store.db"
        own = {"namespace": namespace, "store_url": store_url, "lm_api_base": lm.url, **settings}
        environment = {f"DSPEX_{name.upper()}": text for name, text in own.items()}
        workers = stage.workers.apart(folder, environment=environment)
        try:
            yield replace(stage, lm=lm, store_url=store_url, namespace=namespace, workers=workers, delays_ms=delays_ms)
        finally:
            await workers.end_all()


async def until(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds that nobody tells of.

    Raises:
        TimeoutError: It did not within half a minute.
    """
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            held = is_so()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(_POLL_SECONDS)


async def emptied(stage: Stage, *, looks: int = 4, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until nothing is left on the ladder and in the work queues; what a worker has in hand does not show.

    Args:
        stage: Where.
        looks: How often in a row it must be so.
        patience_seconds: When to give up.

    Raises:
        TimeoutError: It was not so in time.
    """
    async with asyncio.timeout(patience_seconds):
        empty = 0
        while empty < looks:
            empty = empty + 1 if await _is_empty(stage) else 0
            await asyncio.sleep(_POLL_SECONDS)


async def settled(stage: Stage, load: Load) -> None:
    """Wait until every job has its reply and nothing is left in the queues, or nothing has come for a while.

    It does not fail: the oracle says what is missing, and what is left.
    """
    await load.replied()
    with contextlib.suppress(TimeoutError):
        await emptied(stage)


@dataclass(frozen=True)
class Bench:
    """A worker that lives through every message of a test module, and an LM that is told what to do."""

    stage: Stage
    lm: BehavingLM
    life: Life


@contextlib.asynccontextmanager
async def bench(stage: Stage, lm: BehavingLM, **settings: str) -> AsyncIterator[Bench]:
    """Start the LM, and a worker with these settings in a room of its own, for the block."""
    await lm.start()
    try:
        async with room(stage, lm_api_base=lm.url, **settings) as own:
            yield Bench(own, lm, await own.workers.start())
    finally:
        await lm.stop()


@contextlib.asynccontextmanager
async def watching(bench: Bench) -> AsyncIterator[Caller]:
    """One caller for all messages of a bench: a second reply is seen however late it comes."""
    async with Caller(bench.stage.node.url, bench.stage.namespace) as caller:
        yield caller
        await ended_well(bench.stage, bench.life, caller)


async def ended_well(stage: Stage, life: Life, caller: Caller) -> None:
    """Wait until nothing is left to do, end the worker, and see that no reply came beyond those that were taken."""
    await emptied(stage)
    assert await life.stop() == 0
    left = await depths(stage, [*stage.queues[::-1], *stage.dead_queues])
    assert not any(left.values()), left
    # The broker answers on the connection that the replies come by: what it had sent before is here.
    await caller.depth("control")
    assert caller.unread == []


async def _is_empty(stage: Stage) -> bool:
    # The ladder first: what leaves it meanwhile is seen in its work queue.
    return not any((await depths(stage, list(reversed(stage.queues)))).values())


async def send(stage: Stage, lane: str, body: bytes, **properties: Any) -> None:
    """Publish a message to a work queue with a confirm, with no more properties than are given."""
    async with await aio_pika.connect(stage.node.url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(body, **properties)
        await channel.default_exchange.publish(message, routing_key=f"{stage.namespace}.{lane}")
