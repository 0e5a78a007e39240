"""``dspex-worker workers``: who works in a namespace, asked over the queue; of the store where nobody answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.printing import escape, print_json, print_table
from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, load_settings, run, stop

if TYPE_CHECKING:
    from rich.text import Text

    from worker.settings import Settings

_COLUMNS = ("id", "host", "version", "uptime", "seen", "in flight", "paused", "open circuits", "settings")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("workers")(workers)


def workers(
    *,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the workers of the namespace: what they do, what is paused, and where they differ.

    A worker answers from the store. Where none does, the store is read from here, and the command exits with 2.
    """
    settings = load_settings()
    from worker.client import ClientError

    try:
        reply = run(_ask(settings, seconds=timeout), amqp_url=settings.broker_url)
    except ClientError as error:
        _print_from_store(settings, reason=str(error), as_json=as_json)
        raise typer.Exit(EXIT_NOBODY) from None
    except typer.Exit as end:
        # The broker is away, which was said by now.
        if end.exit_code == EXIT_NOBODY:
            _print_from_store(settings, reason="No worker was asked", as_json=as_json)
        raise
    if reply["success"]:
        _print(reply["result"]["workers"], as_json=as_json)
    elif reply["error_detail"]["code"] == "unknown_command":
        _print_from_store(settings, reason="A worker of an older version answered", as_json=as_json)
        raise typer.Exit(EXIT_NOBODY)
    else:
        raise stop(reply["error"], code=EXIT_ERROR)


async def _ask(settings: Settings, *, seconds: float) -> dict[str, Any]:
    from worker.client import Client

    async with Client(settings.broker_url, namespace=settings.namespace, timeout=seconds) as client:
        return await client.ask("list_workers", {})


def _print_from_store(settings: Settings, *, reason: str, as_json: bool) -> None:
    """Print what the store says, with the reason why no worker does.

    Raises:
        typer.Exit: It cannot be read either.
    """
    from worker.store import StoreUnavailableError

    try:
        listed = run(_read(settings))
    except (StoreUnavailableError, ValueError) as error:
        raise stop(f"{reason}; the store cannot be read either: {error}", code=EXIT_NOBODY) from None
    if listed is None:
        raise stop(f"{reason}; the store is not there either", code=EXIT_NOBODY)
    typer.echo(f"{reason}; the store says:", err=True)
    _print(listed, as_json=as_json)


async def _read(settings: Settings) -> list[dict[str, Any]] | None:
    from worker.store import describe_workers
    from worker.store.reader import open_reader

    async with open_reader(settings.resolved_store_url, namespace=settings.namespace) as reader:
        if reader is None:
            return None
        return describe_workers(await reader.list_workers(lease_seconds=settings.lease_seconds))


def _print(listed: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"workers": listed})
        return
    if listed:
        print_table(_COLUMNS, [_row(worker) for worker in listed])
    living = [worker for worker in listed if worker["state"] == "living"]
    lost = len(listed) - len(living)
    differing = [name for name in ("version", "settings") if any(name in worker["differs"] for worker in living)]
    also = [f"{lost} lost"] * bool(lost) + [f"not of the same {' and '.join(differing)}"] * bool(differing)
    typer.echo(", ".join([f"{len(living)} living", *also]))


def _row(worker: Mapping[str, Any]) -> tuple[object, ...]:
    seen = f"{_span(worker['silent_seconds'])} ago"
    circuits = [f"{alias}: {one['code']}, {_span(one['open_seconds'])}" for alias, one in worker["circuits"].items()]
    return (
        worker["worker_id"],
        worker["host"],
        _marked(worker, "version"),
        _span(worker["uptime"]),
        seen if worker["state"] == "living" else _warning(f"lost, {seen}"),
        _in_flight(worker["in_flight"]),
        "\n".join(f"{', '.join(pause['lanes'])}: {pause['reason']}" for pause in worker["paused"]) or None,
        "\n".join(circuits) or None,
        _marked(worker, "settings"),
    )


def _in_flight(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return "?"
    return "\n".join(f"{lane} {count}" for lane, count in counts.items() if count) or "0"


def _marked(worker: Mapping[str, Any], name: str) -> object:
    """Return a version or a hash, marked where it differs from that of the others."""
    value = escape(worker[name] or "?")
    return _warning(f"{value} (differs)") if name in worker["differs"] else value


def _warning(text: str) -> Text:
    from rich.text import Text

    return Text(text, style="yellow")


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
