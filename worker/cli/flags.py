"""``dspex-worker flags``: show and set the flags of all workers of a namespace, over the queue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from worker.cli.printing import print_json, print_table
from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, load_settings, run, stop

AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")]

_flags = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def add_to(app: typer.Typer) -> None:
    """Add the command and what stands below it."""
    app.add_typer(_flags, name="flags")


@_flags.callback()
def show(context: typer.Context, *, timeout: Timeout = 60.0, as_json: AsJSON = False) -> None:
    """Show the flags that apply to all workers.

    A flag that was never set has the start value that the environment of the answering worker gives it.
    """
    if context.invoked_subcommand is not None:
        return
    result = _ask("get_flags", {}, timeout=timeout)
    if as_json:
        print_json(result)
        return
    rows = [(name, value, "set" if name in result["set"] else "start value") for name, value in result["flags"].items()]
    print_table(("flag", "value", "from"), rows)


@_flags.command("set")
def set_flag(
    name: Annotated[str, typer.Argument(metavar="NAME", help="dynamic_signatures or dynamic_signatures_rollout.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="on, off or force_off; a percentage from 0 to 100.")],
    *,
    timeout: Timeout = 60.0,
    as_json: AsJSON = False,
) -> None:
    """Set a flag for all workers; `dynamic_signatures force_off` is the rollback.

    It holds from the next job on that any worker starts, and survives restarts.
    """
    result = _ask("set_flag", {"name": name, "value": value}, timeout=timeout)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{result['name']}: {result['previous']} → {result['value']}")


def _ask(command: str, args: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """Ask the workers and return the result; an error reply ends with 1, no reply with 2."""
    settings = load_settings()
    from worker.client import Client, ClientError

    url = settings.broker_url

    async def ask() -> dict[str, Any]:
        async with Client(url, namespace=settings.namespace, timeout=timeout) as client:
            return await client.ask(command, args)

    try:
        reply = run(ask(), amqp_url=url)
    except ClientError as error:
        raise stop(str(error), code=EXIT_NOBODY) from None
    if not reply["success"]:
        raise stop(reply["error"], code=EXIT_ERROR)
    return dict(reply["result"])
