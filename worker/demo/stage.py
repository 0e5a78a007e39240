"""What the demo plays with: broker, workers, client; set up in order, and taken down whatever happens."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aio_pika.abc import AbstractConnection

from worker.amqp.connection import connect
from worker.amqp.topology import Topology, declare, remove
from worker.client import Client
from worker.demo.errors import DemoError
from worker.demo.lm_stub import LMStub
from worker.demo.workers import DELAYS_MS, WorkerProcess, worker_environment
from worker.message import LANES

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the scenes share.

    Attributes:
        client: Talks to the workers.
        connection: For what a client does not do: dead letters, a reply queue.
        topology: The demo's own namespace.
        workers: Two of them.
        remote_lm: An LM provider whose port is closed at first.
        amqp_url: The broker.
        folder: Removed at the end.
    """

    client: Client
    connection: AbstractConnection
    topology: Topology
    workers: tuple[WorkerProcess, WorkerProcess]
    remote_lm: LMStub
    amqp_url: str
    folder: Path


@asynccontextmanager
async def set_up(amqp_url: str) -> AsyncIterator[Stage]:
    """Start two workers in a fresh namespace; at the end stop them and remove all that they made.

    The namespace is never one that exists: removing it would remove somebody's jobs.

    Raises:
        ConnectionError: The broker cannot be reached.
        DemoError: A worker ended while starting.
    """
    topology = Topology.of(namespace=f"dspex-demo-{secrets.token_hex(4)}", delays_ms=DELAYS_MS)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dspex-demo-")))
        remote_lm = LMStub({"sentiment": "positive", "confidence": 0.97})
        stack.push_async_callback(remote_lm.close)
        connection = await connect(amqp_url, name="dspex-worker demo")
        stack.push_async_callback(connection.close)
        stack.push_async_callback(remove, topology, connection)
        await declare(topology, connection)
        environment = worker_environment(amqp_url, namespace=topology.namespace, folder=folder, lm_url=remote_lm.url)
        workers = _workers(folder, environment)
        stack.push_async_callback(_stop, workers)
        await asyncio.gather(*(worker.start() for worker in workers))
        client = await stack.enter_async_context(Client(amqp_url, namespace=topology.namespace))
        yield Stage(client, connection, topology, workers, remote_lm, amqp_url, folder)


async def wait_for_workers(stage: Stage) -> None:
    """Wait until both workers consume from every queue.

    Raises:
        DemoError: A worker ended; the message says which.
    """

    def is_ready(_messages: int, consumers: int) -> bool:
        for worker in stage.workers:
            if not worker.is_running:
                raise DemoError(f"{worker.name} ended while starting")
        return consumers == len(stage.workers)

    for lane in LANES:
        await watch(stage, stage.topology.work_queue(lane), until=is_ready)


async def watch(stage: Stage, queue: str, *, until: Callable[[int, int], bool]) -> None:
    """Wait until a queue's counts of messages and consumers are as wanted; AMQP has no event for that."""
    async with stage.connection.channel() as channel:
        while True:
            counts = (await channel.declare_queue(queue, passive=True)).declaration_result
            if until(counts.message_count or 0, counts.consumer_count or 0):
                return
            await asyncio.sleep(_POLL_SECONDS)


def _workers(folder: Path, environment: dict[str, str]) -> tuple[WorkerProcess, WorkerProcess]:
    first, second = (WorkerProcess(name, folder=folder, environment=environment) for name in ("worker-1", "worker-2"))
    return first, second


async def _stop(workers: tuple[WorkerProcess, ...]) -> None:
    await asyncio.gather(*(worker.stop() for worker in workers))
