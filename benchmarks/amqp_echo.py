"""The worker's own AMQP side with a handler that does nothing: ``python -m benchmarks.amqp_echo``.

Consume, reply with a confirm, ack: what the queue alone costs a job. Settings are the worker's, from the environment.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

import uvloop

from worker.amqp.consumer import Consumer
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology
from worker.message import Ack, Delivery, Outcome, Reply
from worker.settings import load
from worker.telemetry import configure_logging

_BODY = b'{"id": null, "success": true, "timestamp": 1.0, "result": {"outputs": {"label": "positive", "score": 0.93}}}'


async def echo(delivery: Delivery) -> Outcome:
    """Return a ready reply."""
    assert delivery.reply_to is not None
    return Outcome(Reply(_BODY, delivery.reply_to, delivery.correlation_id, uuid.uuid4().hex), Ack())


async def serve() -> None:
    """Answer every job until stdin is closed; say on stdout when it begins."""
    settings = load()
    configure_logging(level=settings.log_level, style="json")
    topology = Topology.of(
        namespace=settings.namespace,
        delays_ms=settings.delays_ms,
    )
    publisher = Publisher(settings, topology, worker_id="echo")
    consumer = Consumer(settings, topology, handle=echo, publisher=publisher, worker_id="echo")
    await publisher.start()
    await consumer.start()
    await consumer.begun()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await consumer.drain(5)
    await publisher.close()


if __name__ == "__main__":
    uvloop.run(serve())
