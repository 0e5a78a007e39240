"""A consumer on the real broker whose handler is a small function of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from tests.support.caller import Caller
from worker.amqp.consumer import Consumer
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology
from worker.message import Delay, Delivery, Outcome, Settlement, make_reply
from worker.settings import Settings, load

PATIENCE_SECONDS = 20.0


@dataclass
class Handler:
    """Ends every job with the settlement it is told, and a reply where one is asked for.

    Attributes:
        settlements: One a delivery, in order; the last one from then on.
        deliveries: What it was given, in order.
        times: When, in seconds of the loop's clock.
        gate: Jobs wait for it before they end.
        cancelled: Deliveries whose run was cancelled.
    """

    settlements: tuple[Settlement, ...]
    namespace: str
    is_replying: bool = True
    deliveries: list[Delivery] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cancelled: list[Delivery] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, delivery: Delivery) -> Outcome:
        async with self._changed:
            settlement = self.settlements[min(len(self.deliveries), len(self.settlements) - 1)]
            self.deliveries.append(delivery)
            self.times.append(asyncio.get_running_loop().time())
            self._changed.notify_all()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(delivery)
            raise
        key = delivery.message_id or str(len(self.deliveries))
        reply = make_reply(delivery, b'{"done": true}', job_key=key, namespace=self.namespace, attempts=0)
        has_reply = self.is_replying and not isinstance(settlement, Delay)
        return Outcome(reply if has_reply else None, settlement)

    async def seen(self, count: int) -> list[Delivery]:
        """Wait until so many deliveries have come."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.deliveries) >= count)
        return self.deliveries


MakeHandler = Callable[..., Handler]
StartConsumer = Callable[..., AbstractAsyncContextManager[Consumer]]


@pytest.fixture
def make_handler(namespace: str) -> MakeHandler:
    """Return a maker of handlers; they end jobs at once unless ``is_open`` is false."""

    def make(*settlements: Settlement, is_open: bool = True, is_replying: bool = True) -> Handler:
        handler = Handler(settlements, namespace, is_replying)
        if is_open:
            handler.gate.set()
        return handler

    return make


@pytest.fixture
def settings(amqp_url: str, namespace: str) -> Settings:
    return load(
        {
            "DSPEX_AMQP_URL": amqp_url,
            "DSPEX_NAMESPACE": namespace,
            "DSPEX_DELAYS_SECONDS": "0.2,0.5",
        }
    )


@pytest.fixture
def topology(settings: Settings) -> Topology:
    return Topology.of(
        namespace=settings.namespace,
        delays_ms=settings.delays_ms,
        dead_letter_max_bytes=1024**2,
    )


@pytest.fixture
def start_consumer(settings: Settings, topology: Topology) -> StartConsumer:
    """Return a context manager that consumes with a handle function until its block ends."""

    @contextlib.asynccontextmanager
    async def start(handle: Callable[[Delivery], object], **changes: object) -> AsyncIterator[Consumer]:
        changed = settings.model_copy(update=changes)
        publisher = Publisher(changed, topology, worker_id="worker-1")
        consumer = Consumer(changed, topology, handle=handle, publisher=publisher, worker_id="worker-1")  # type: ignore[arg-type]
        try:
            await publisher.start()
            await consumer.start()
            await consumer.begun()
            yield consumer
        finally:
            await consumer.drain(PATIENCE_SECONDS)
            await publisher.close()

    return start


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells: a counter of another task."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.01)


async def until_depth(caller: Caller, queue: str, depth: int) -> None:
    """Wait until a queue holds so many messages: a quorum queue counts a little late."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await caller.depth(queue) != depth:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
