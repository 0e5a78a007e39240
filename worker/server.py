"""The worker process: connects, declares, consumes, and drains on SIGTERM.

The one place where both hands meet: the handler, which knows DSPy, and the consumer, which knows AMQP.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from worker import __version__
from worker.amqp.alone import unless
from worker.amqp.callers import Callers
from worker.amqp.connection import is_worth_a_line, mask_url
from worker.amqp.consumer import Consumer
from worker.amqp.hearing import Hearing
from worker.amqp.publisher import Publisher
from worker.amqp.topology import Topology
from worker.circuits import Circuits
from worker.commands import Commands
from worker.condition import Condition, Parts, report_status
from worker.execution import Runner
from worker.handler import Handler
from worker.inbox import Inbox
from worker.lm import LMs
from worker.message import Lane
from worker.programs import Programs
from worker.questions import Questions
from worker.settings import Settings, settings_hash
from worker.store import Store, StoreMisfitError, StoreUnavailableError, steadily
from worker.store.availability import pauses
from worker.telemetry import BUILD_INFO, log_bug

if TYPE_CHECKING:  # aiohttp stays out of a worker without an HTTP port
    from worker.health import Liveness, Readiness

_FLUSH_SECONDS = 1.0
_LAST_FLUSH_SECONDS = 1.0
_CANCEL_SECONDS = 0.5
_SWEEP_SECONDS = 60.0
_LISTEN_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_WATCH_SECONDS = 0.5
_REPORT_SECONDS = 1.0
_PAID_LANES: tuple[Lane, ...] = ("execute",)

log = structlog.get_logger()


async def serve(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT.

    A first signal drains: no new jobs, running ones get ``drain`` seconds. A second one stops at once.

    Returns:
        The exit code: 0 if every running job ended, 1 if some were handed back to the broker.

    Raises:
        TopologyError: The broker's queues differ from ours.
        StoreMisfitError: The store cannot be used, and waiting does not help.
    """
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    structlog.contextvars.bind_contextvars(worker=worker_id)
    stop = _stop_on_signals()
    async with contextlib.AsyncExitStack() as stack:
        consumer = await _started(stack, settings, worker_id=worker_id, stop=stop)
        if consumer is None:
            return 0
        await unless(stop, consumer.begun())
        if not stop.is_set():
            log.info("worker.ready", namespace=settings.namespace, concurrency=settings.concurrency)
        await stop.wait()
        log.info("worker.draining", seconds=settings.drain)
        is_drained = await consumer.drain(settings.drain)
    log.info("worker.stopped", is_drained=is_drained)
    return 0 if is_drained else 1


async def _started(
    stack: contextlib.AsyncExitStack, settings: Settings, *, worker_id: str, stop: asyncio.Event
) -> Consumer | None:
    """Start the worker, however long its broker or its store is away, unless a signal comes first: then nothing is in hand yet."""
    starting = asyncio.create_task(stack.enter_async_context(running(settings, worker_id=worker_id, stop=stop)))
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
async def running(settings: Settings, *, worker_id: str, stop: asyncio.Event | None = None) -> AsyncIterator[Consumer]:
    """Start everything in the order of its dependencies, and stop it the other way round.

    Args:
        settings: The worker's settings.
        worker_id: Its name.
        stop: Set when the process is told to stop, which is then noted in the rows of the jobs in hand.

    Yields:
        The consumer, whose lanes come up by themselves: `Consumer.begun` tells when they have.
    """
    _tell_start(settings)
    async with contextlib.AsyncExitStack() as stack:
        # Before the store and the broker, which may be away for long: that is no reason to take the worker for dead.
        condition = Condition()
        await stack.enter_async_context(_http(settings, condition.missing, condition.fault))
        store = await _open_store(settings, worker_id=worker_id)
        stack.push_async_callback(store.close)
        topology = Topology.of(namespace=settings.namespace, delays_ms=settings.delays_ms)
        publisher = Publisher(settings, topology, worker_id=worker_id)
        left = _left_hand(settings, store, callers=publisher.callers, worker_id=worker_id)
        stack.push_async_callback(left.lms.aclose)
        stack.push_async_callback(_last_flush, store, left.commands)
        consumer = Consumer(settings, topology, handle=left.handler.handle, publisher=publisher, worker_id=worker_id)
        hearing = Hearing(lambda: consumer.is_deaf, clock=time.monotonic)
        condition.parts = Parts(store, consumer, publisher, hearing)
        report = functools.partial(report_status, store, consumer, left.lms.circuits, settings=settings_hash(settings))
        await report()
        stack.push_async_callback(publisher.close)
        await publisher.start()
        await consumer.start()
        stack.push_async_callback(consumer.close)
        await stack.enter_async_context(_noting_stop(store, stop or asyncio.Event()))
        await stack.enter_async_context(
            _chores(
                _Chore("flush", _FLUSH_SECONDS, left.commands.flush_runs),
                _Chore("sweep", _SWEEP_SECONDS, store.sweep),
                _Chore("cancel", _CANCEL_SECONDS, left.inbox.stop_cancelled),
                _Chore("listen", _LISTEN_SECONDS, hearing.listen),
                _Chore("report", _REPORT_SECONDS, report),
                _Chore("look", _LOOK_SECONDS, consumer.look),
                # Else a worker with nothing to publish stays without its connection, and unready.
                _Chore("connect", _LISTEN_SECONDS, publisher.start),
                _Chore(
                    "store down", _WATCH_SECONDS, functools.partial(_pause_without_store, settings, store, consumer)
                ),
                _Chore("LMs down", _WATCH_SECONDS, functools.partial(_pause_without_lms, left.lms.circuits, consumer)),
            )
        )
        yield consumer


def _tell_start(settings: Settings) -> None:
    BUILD_INFO.labels(__version__).set(1)
    log.info(
        "worker.starting",
        version=__version__,
        namespace=settings.namespace,
        broker=mask_url(settings.broker_url),
        store=mask_url(settings.resolved_store_url),
        lms={alias: profile.model for alias, profile in settings.profiles.items()},
    )


async def _open_store(settings: Settings, *, worker_id: str) -> Store:
    """Open the store, however long it is away; as with the broker, a password may be corrected there too.

    Raises:
        StoreMisfitError: Waiting does not help.
    """
    for attempt, pause in enumerate(pauses(), start=1):
        try:
            store = await _open_store_once(settings, worker_id=worker_id)
        except StoreMisfitError:
            raise
        except StoreUnavailableError as error:
            _report_store(settings, attempt=attempt, error=error)
        else:
            if attempt > 1:
                log.info("store.back", store=mask_url(settings.resolved_store_url), attempts=attempt)
            return store
        await asyncio.sleep(pause)
    raise AssertionError("an endless retry has ended")


def _report_store(settings: Settings, *, attempt: int, error: StoreUnavailableError) -> None:
    if is_worth_a_line(attempt):
        log.warning(
            "store.unreachable",
            store=mask_url(settings.resolved_store_url),
            attempt=attempt,
            reason=str(error),
        )


async def _open_store_once(settings: Settings, *, worker_id: str) -> Store:
    return await Store.open(
        settings.resolved_store_url,
        namespace=settings.namespace,
        worker_id=worker_id,
        lease_seconds=settings.lease_seconds,
        max_row_age_ms=round((settings.max_age_seconds + settings.result_ttl_seconds) * 1_000),
        version=__version__,
    )


@dataclass(frozen=True, slots=True)
class _LeftHand:
    lms: LMs
    inbox: Inbox
    commands: Commands
    handler: Handler


def _left_hand(settings: Settings, store: Store, *, callers: Callers, worker_id: str) -> _LeftHand:
    lms = LMs(settings.profiles, timeout_seconds=settings.lm_timeout_seconds, max_connections=settings.concurrency)
    inbox = Inbox(store, settings, clock_ms=now_ms)
    programs = Programs(settings)
    runner = Runner(lms, programs, max_repairs=settings.max_repairs)
    commands = Commands(store, settings, programs=programs, runner=runner, inbox=inbox, callers=callers.is_gone)
    questions = Questions(store, programs, lms=lms, commands=commands, worker_id=worker_id)
    handler = Handler(settings, inbox=inbox, commands=commands, questions=questions, clock_ms=now_ms)
    return _LeftHand(lms, inbox, commands, handler)


@contextlib.asynccontextmanager
async def _http(settings: Settings, readiness: Readiness, liveness: Liveness) -> AsyncIterator[None]:
    """Serve the HTTP port, if there is one; aiohttp is imported only then."""
    if not settings.http_port:
        yield
        return
    from worker.health import HealthServer

    server = HealthServer(readiness, liveness)
    await server.start(host=settings.http_host, port=settings.http_port)
    log.info("worker.http", host=settings.http_host, port=settings.http_port)
    try:
        yield
    finally:
        await server.stop()


async def _pause_without_store(settings: Settings, store: Store, consumer: Consumer) -> None:
    """Consume nothing while the store has been away for so long that deliveries are not held any more."""
    await store.availability.wait_until_given_up(settings.store_hold_seconds)
    async with consumer.paused("the store is down"):
        await store.availability.wait_until_up()


async def _pause_without_lms(circuits: Circuits, consumer: Consumer) -> None:
    """Run nothing while no LM answers; programs are still made and questions answered."""
    await circuits.wait_all_open()
    async with consumer.paused("every LM is down", lanes=_PAID_LANES):
        await circuits.wait_any_closed()


@dataclass(frozen=True, slots=True)
class _Chore:
    name: str
    seconds: float
    work: Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def _chores(*chores: _Chore) -> AsyncIterator[None]:
    """Do what comes round again, beside the jobs; one that fails is done again at its next turn."""

    async def repeat(chore: _Chore) -> None:
        while True:
            await asyncio.sleep(chore.seconds)
            try:
                await chore.work()
            except StoreUnavailableError as error:
                # One that is probed is reported where it is probed: once when it falls, once when it is back.
                if error.availability is None:
                    log.warning("store.unavailable", chore=chore.name, reason=str(error))
            except Exception as error:  # noqa: BLE001 - the others, and its own next turn, go on
                log_bug(error, event="chore.failed", chore=chore.name)

    tasks = [asyncio.create_task(repeat(chore)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _noting_stop(store: Store, stop: asyncio.Event) -> AsyncIterator[None]:
    """Note in the rows of the jobs in hand that the process was told to stop, beside the drain: nothing waits for it.

    A platform that kills the process before the drain is over is then known to have done so. A store that is away is
    asked until it answers, or the drain is over.
    """

    async def note() -> None:
        await stop.wait()
        await steadily(store.note_stop)

    task = asyncio.create_task(note(), name="dspex stop note")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _last_flush(store: Store, commands: Commands) -> None:
    if not store.is_answering:
        return
    with contextlib.suppress(StoreUnavailableError, TimeoutError):
        async with asyncio.timeout(_LAST_FLUSH_SECONDS):
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
