"""The worker process: connects, declares, consumes, and drains on SIGTERM.

The one place where both hands meet: the handler, which knows DSPy, and the consumer, which knows AMQP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import structlog

from worker.amqp.connection import mask_url
from worker.amqp.consumer import Consumer
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology
from worker.commands import Commands
from worker.execution import Runner
from worker.handler import Handler
from worker.inbox import Inbox
from worker.lm import LMs
from worker.programs import Programs
from worker.questions import Questions
from worker.settings import Settings
from worker.store import Store, StoreUnavailableError

_FLUSH_SECONDS = 1.0
_CANCEL_SECONDS = 0.5
_SWEEP_SECONDS = 60.0
_READY_SECONDS = 5.0

log = structlog.get_logger()


async def serve(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT.

    A first signal drains: no new jobs, running ones get ``drain`` seconds. A second one stops at once.

    Returns:
        The exit code: 0 if every running job ended, 1 if some were handed back to the broker.

    Raises:
        TopologyError: The broker's queues differ from ours.
        StoreUnavailableError: The store cannot be opened.
    """
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    structlog.contextvars.bind_contextvars(worker=worker_id)
    stop = _stop_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        consumer = await _started(stack, settings, worker_id=worker_id, stop=stop)
        if consumer is None:
            return 0
        await stop.wait()
        log.info("worker.draining", seconds=settings.drain)
        is_drained = await consumer.drain(settings.drain)
    log.info("worker.stopped", is_drained=is_drained)
    return 0 if is_drained else 1


async def _started(
    stack: contextlib.AsyncExitStack, settings: Settings, *, worker_id: str, stop: asyncio.Event
) -> Consumer | None:
    """Start the worker, however long its broker is away, unless a signal comes first."""
    starting = asyncio.create_task(stack.enter_async_context(running(settings, worker_id=worker_id)))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    log.info("worker.stopped", reason="signal before the start was complete")
    starting.cancel()
    await asyncio.wait({starting})
    return None


@contextlib.asynccontextmanager
async def running(settings: Settings, *, worker_id: str) -> AsyncIterator[Consumer]:
    """Start everything in the order of its dependencies, and stop it the other way round."""
    async with contextlib.AsyncExitStack() as stack:
        store_url = settings.resolved_store_url
        log.info(
            "worker.starting",
            namespace=settings.namespace,
            broker=mask_url(settings.amqp_url.get_secret_value()),
            store=mask_url(store_url),
            lms={alias: profile.model for alias, profile in settings.profiles.items()},
        )
        store = await Store.open(
            store_url,
            namespace=settings.namespace,
            worker_id=worker_id,
            lease_seconds=settings.lease_seconds,
            max_row_age_ms=round((settings.max_age_seconds + settings.result_ttl_seconds) * 1_000),
        )
        stack.push_async_callback(store.close)
        lms = LMs(settings.profiles, timeout_seconds=settings.lm_timeout_seconds, max_connections=settings.concurrency)
        stack.push_async_callback(lms.aclose)
        inbox = Inbox(store, settings, clock_ms=now_ms)
        commands, handler = _left_hand(settings, store, lms=lms, inbox=inbox, worker_id=worker_id)
        stack.push_async_callback(_last_flush, commands)

        topology = Topology.of(namespace=settings.namespace, delays_ms=settings.delays_ms)
        publisher = Publisher(settings, topology, worker_id=worker_id)
        stack.push_async_callback(publisher.close)
        consumer = Consumer(settings, topology, handle=handler.handle, publisher=publisher, worker_id=worker_id)
        await publisher.start()
        await consumer.start()
        stack.push_async_callback(consumer.close)

        await stack.enter_async_context(_health(settings, store, consumer=consumer, publisher=publisher))
        await stack.enter_async_context(
            _chores(
                _Chore("flush", _FLUSH_SECONDS, commands.flush_runs),
                _Chore("sweep", _SWEEP_SECONDS, store.sweep),
                _Chore("cancel", _CANCEL_SECONDS, inbox.stop_cancelled),
            )
        )
        log.info("worker.ready", namespace=settings.namespace, concurrency=settings.concurrency)
        yield consumer


def _left_hand(settings: Settings, store: Store, *, lms: LMs, inbox: Inbox, worker_id: str) -> tuple[Commands, Handler]:
    programs = Programs(settings)
    runner = Runner(lms, programs, max_repairs=settings.max_repairs)
    commands = Commands(store, settings, programs=programs, runner=runner, inbox=inbox)
    questions = Questions(store, programs, lms=lms, commands=commands, worker_id=worker_id)
    return commands, Handler(settings, inbox=inbox, commands=commands, questions=questions, clock_ms=now_ms)


@contextlib.asynccontextmanager
async def _health(settings: Settings, store: Store, *, consumer: Consumer, publisher: Publisher) -> AsyncIterator[None]:
    """Serve the HTTP port, if there is one; aiohttp is imported only then."""
    if not settings.http_port:
        yield
        return
    from worker.health import HealthServer

    async def missing() -> list[str]:
        faults = [] if consumer.is_consuming else ["not consuming"]
        faults += [] if publisher.is_ready else ["not publishing"]
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await store.ping()
        except (StoreUnavailableError, TimeoutError) as error:
            faults.append(f"store: {error}")
        return faults

    server = HealthServer(missing)
    await server.start(host=settings.http_host, port=settings.http_port)
    log.info("worker.http", host=settings.http_host, port=settings.http_port)
    try:
        yield
    finally:
        await server.stop()


@dataclass(frozen=True, slots=True)
class _Chore:
    name: str
    seconds: float
    work: Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def _chores(*chores: _Chore) -> AsyncIterator[None]:
    """Do what comes round again, beside the jobs: write run counts, sweep old rows, look for cancel marks."""

    async def repeat(chore: _Chore) -> None:
        while True:
            await asyncio.sleep(chore.seconds)
            try:
                await chore.work()
            except StoreUnavailableError as error:
                log.warning("store.unavailable", chore=chore.name, reason=str(error))
            except Exception:
                log.exception("chore.failed", chore=chore.name)

    tasks = [asyncio.create_task(repeat(chore)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _last_flush(commands: Commands) -> None:
    with contextlib.suppress(StoreUnavailableError):
        await commands.flush_runs()


def _stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("worker.killed", reason="second signal")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def now_ms() -> int:
    """Return unix milliseconds."""
    return time.time_ns() // 1_000_000
