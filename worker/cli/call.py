"""``dspex-worker call``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from worker.cli.printing import print_json
from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, load_settings, run, stop


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("call")(call)


def call(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="ping, list_programs, execute_program, …")],
    args: Annotated[str, typer.Option("--args", help="The arguments as a JSON object; `-` reads stdin.")] = "{}",
    *,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")] = 60.0,
    queue: Annotated[
        str | None, typer.Option(help="create, execute, control or a queue's name; default: what fits the command.")
    ] = None,
    message_id: Annotated[
        str | None, typer.Option(help="Idempotency key: the same id with the same arguments runs once.")
    ] = None,
) -> None:
    """Send one command to the workers and print the reply as JSON.

    Exits with 0 on success, 1 on an error reply, and 2 when nobody answers.
    """
    document = _read(args)
    settings = load_settings()
    from worker.client import Client, ClientError

    url = settings.broker_url

    async def ask() -> dict[str, Any]:
        async with Client(url, namespace=settings.namespace, timeout=timeout) as client:
            return await client.ask(command, document, queue=queue, message_id=message_id)

    try:
        reply = run(ask(), amqp_url=url)
    except ClientError as error:
        raise stop(str(error), code=EXIT_NOBODY) from None
    print_json(reply)
    _tell_fallback(reply)
    raise typer.Exit(0 if reply["success"] else EXIT_ERROR)


def _tell_fallback(reply: Mapping[str, Any]) -> None:
    """Say on stderr what is easily missed in a long reply: the answer is not of the declared signature."""
    result = reply.get("result")
    if isinstance(result, dict) and result.get("fallback_used") is True:
        reason = " ".join(str(result.get("fallback_reason")).split())
        typer.echo(f"Fallback: `question -> answer` takes the place of the signature ({reason})", err=True)


def _read(text: str) -> dict[str, Any]:
    """Read the arguments.

    Raises:
        typer.BadParameter: They are no JSON object.
    """
    try:
        document = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise typer.BadParameter(f"is not JSON: {error}", param_hint="--args") from None
    if not isinstance(document, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--args")
    return document
