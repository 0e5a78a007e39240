"""Run a step on the broker, with what a replay or a purge needs around it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, describe_broker_trouble, run, stop

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from worker.amqp.dead_letters import Check, OnProgress, Plan, Ports, PurgeReport, ReplayReport
    from worker.amqp.topology import Topology
    from worker.message import Lane
    from worker.settings import Settings

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def replay_letters(settings: Settings, *, lane: Lane, plan: Plan, audit: Path, has_bar: bool) -> ReplayReport:
    """Replay, with a check of every job, an audit trail, a progress bar and a soft Ctrl-C."""
    from worker.amqp.dead_letters import replay

    async def step(connection: AbstractConnection, topology: Topology) -> ReplayReport:
        async with _check(settings, is_forced=plan.on_refusal == "force") as check:
            with _ports(plan, audit=audit, has_bar=has_bar, check=check) as ports:
                return await replay(connection, topology, lane, plan=plan, ports=ports)

    return on_broker(settings, step)


def purge_letters(settings: Settings, *, lane: Lane, plan: Plan, audit: Path, has_bar: bool) -> PurgeReport:
    """Purge, with an audit trail, a progress bar and a soft Ctrl-C."""
    from worker.amqp.dead_letters import purge

    async def step(connection: AbstractConnection, topology: Topology) -> PurgeReport:
        with _ports(plan, audit=audit, has_bar=has_bar) as ports:
            return await purge(connection, topology, lane, plan=plan, ports=ports)

    return on_broker(settings, step)


class Browse(Protocol[T_co]):
    """A look at dead letters, such as `worker.amqp.dead_letters.show` once it knows the lane."""

    def __call__(
        self,
        connection: AbstractConnection,
        topology: Topology,
        *,
        trusted_users: Collection[str],
        on_look: OnProgress,
    ) -> Coroutine[Any, Any, T_co]:
        """Look, and return what was found."""
        ...


def browsing(settings: Settings, look: Browse[T], *, has_bar: bool) -> T:
    """Run a look at dead letters with a progress bar.

    Raises:
        typer.Exit: With 1 where something refuses, with 2 where the broker cannot be reached.
    """

    async def step(connection: AbstractConnection, topology: Topology) -> T:
        with _progress_bar(is_shown=has_bar) as on_look:
            return await look(connection, topology, trusted_users=settings.trusted_users, on_look=on_look)

    return on_broker(settings, step)


def on_broker(settings: Settings, step: Callable[[AbstractConnection, Topology], Coroutine[Any, Any, T]]) -> T:
    """Run one step on a connection of its own; what the broker refuses is printed.

    Raises:
        typer.Exit: With 1 where something refuses, with 2 where the broker cannot be reached.
    """
    from worker.amqp.errors import BrokerError, ConnectionLostError

    url = settings.broker_url

    async def connected() -> T:
        async with _connection(settings) as connection:
            return await step(connection, _topology(settings))

    try:
        return run(connected(), amqp_url=url)
    except ConnectionLostError as error:
        raise stop(describe_broker_trouble(url, error), code=EXIT_NOBODY) from None
    except BrokerError as error:
        raise stop(str(error), code=EXIT_ERROR) from None


@contextlib.asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[AbstractConnection]:
    from worker.amqp.connection import connect

    connection = await connect(settings.broker_url, name="dspex-worker dead")
    try:
        yield connection
    finally:
        await connection.close()


def _topology(settings: Settings) -> Topology:
    from worker.amqp.topology import Topology

    return Topology.of(
        namespace=settings.namespace,
        delays_ms=settings.delays_ms,
    )


@contextlib.asynccontextmanager
async def _check(settings: Settings, *, is_forced: bool) -> AsyncIterator[Check | None]:
    """Yield what checks a job against today's programs; nothing does where every job is moved anyway."""
    if is_forced:
        yield None
        return
    from worker.store import StoreUnavailableError
    from worker.store.reader import open_reader
    from worker.vetting import Vetting

    try:
        async with open_reader(settings.resolved_store_url, namespace=settings.namespace) as shelf:
            yield Vetting(settings, shelf=shelf).check
    except StoreUnavailableError as error:
        told = f"{error}\nInputs are checked against the programs in it before anything moves; --force does without."
        raise stop(told, code=EXIT_ERROR) from None


@contextlib.contextmanager
def _ports(plan: Plan, *, audit: Path, has_bar: bool, check: Check | None = None) -> Iterator[Ports]:
    from worker.amqp.dead_letters import AuditTrail, Ports

    with contextlib.ExitStack() as stack:
        on_look = stack.enter_context(_progress_bar(is_shown=has_bar))
        ports = Ports(on_progress=on_look, on_look=on_look, check=check)
        if not plan.is_dry_run:
            ports = replace(ports, audit=stack.enter_context(AuditTrail.open(audit)).write)
        stack.enter_context(_stopping_softly(ports.stop))
        yield ports


@contextlib.contextmanager
def _stopping_softly(stop_event: asyncio.Event) -> Iterator[None]:
    """End after the message in hand at the first SIGINT or SIGTERM; the second one is what it always is."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def soften() -> None:
        stop_event.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, soften)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _progress_bar(*, is_shown: bool) -> Iterator[OnProgress]:
    """Yield what gets messages done and messages in all."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (is_shown and sys.stderr.isatty())) as progress:
        bar = progress.add_task("dead letters", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
