"""``dspex-worker dead``: look into dead-letter queues, and send their jobs back to work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker.cli.printing import print_json, print_table
from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, describe_broker_trouble, load_settings, run, stop

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from worker.amqp.dead_letters import ReplayReport
    from worker.amqp.topology import Topology
    from worker.message import Lane
    from worker.settings import Settings

T = TypeVar("T")

QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="create, execute, control, or a queue's full name.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_dead = typer.Typer(
    no_args_is_help=True,
    help="List, show and replay dead letters: jobs that failed for good.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(_dead, name="dead")


@_dead.command("list")
def list_queues(*, as_json: AsJSON = False) -> None:
    """Count the dead letters of each queue."""
    from worker.amqp.dead_letters import list_dead

    queues = _on_broker(load_settings(), list_dead)
    if as_json:
        print_json([asdict(queue) for queue in queues])
    else:
        print_table(("queue", "lane", "messages"), [(queue.name, queue.lane, queue.messages) for queue in queues])


@_dead.command("show")
def show_letters(
    queue: QueueName,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, the oldest first.")] = 20,
    as_json: AsJSON = False,
) -> None:
    """Show dead letters and leave them where they are."""
    settings = load_settings()
    lane = read_lane(queue, namespace=settings.namespace)
    from worker.amqp.dead_letters import show

    letters = _on_broker(settings, lambda connection, topology: show(connection, topology, lane=lane, limit=limit))
    if as_json:
        print_json([asdict(letter) for letter in letters])
    elif letters:
        columns = ("message_id", "program_id", "code", "message", "attempts", "generation")
        print_table(columns, ([getattr(letter, column) for column in columns] for letter in letters))
    else:
        typer.echo("No dead letters.")


@_dead.command("replay")
def replay_letters(
    queue: QueueName,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be replayed, and change nothing.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; default: all that are there now.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Send dead letters back to their work queue, once each, the oldest first.

    Safe to interrupt: each one is copied, the copy is confirmed, and only then the dead letter is removed.
    """
    settings = load_settings()
    lane = read_lane(queue, namespace=settings.namespace)
    from worker.amqp.dead_letters import replay

    with _progress_bar(is_shown=not as_json) as on_progress:
        report = _on_broker(
            settings,
            lambda connection, topology: replay(
                connection, topology, lane=lane, is_dry_run=dry_run, limit=limit, on_progress=on_progress
            ),
        )
    if as_json:
        print_json({**asdict(report), "counts": list(_counts(report))})
    else:
        _print_report(report)


def read_lane(queue: str, *, namespace: str) -> Lane:
    """Read a lane from its own name, its work queue's or its dead-letter queue's.

    Raises:
        typer.BadParameter: It names no lane of the namespace.
    """
    from worker.message import LANES

    name = queue.removeprefix(f"{namespace}.").removesuffix(".dead")
    for lane in LANES:
        if name == lane:
            return lane
    raise typer.BadParameter(
        f"must be {', '.join(LANES)}, or a queue's full name, such as {namespace}.execute or {namespace}.execute.dead",
        param_hint="QUEUE",
    )


def _counts(report: ReplayReport) -> Iterator[dict[str, Any]]:
    for (program_id, code), messages in report.counts.items():
        yield {"program_id": program_id, "code": code, "messages": messages}


def _print_report(report: ReplayReport) -> None:
    if report.counts:
        print_table(("program_id", "code", "messages"), (list(count.values()) for count in _counts(report)))
    verb = "would be replayed" if report.is_dry_run else "replayed"
    typer.echo(f"{report.replayed} of {report.total} {verb} from {report.queue}")
    if report.left:
        typer.echo(f"{report.left} cannot be copied and stay: their headers are too large or not UTF-8", err=True)


def _on_broker(settings: Settings, step: Callable[[AbstractConnection, Topology], Coroutine[Any, Any, T]]) -> T:
    """Run one step on a connection of its own; what the broker refuses is printed."""
    from worker.amqp.errors import BrokerError, ConnectionLostError

    url = settings.amqp_url.get_secret_value()

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

    connection = await connect(settings.amqp_url.get_secret_value(), name="dspex-worker dead")
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


@contextlib.contextmanager
def _progress_bar(*, is_shown: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what a replay calls with messages done and messages in all."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (is_shown and sys.stderr.isatty())) as progress:
        bar = progress.add_task("replaying", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
