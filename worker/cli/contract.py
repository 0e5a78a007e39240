"""``dspex-worker schema`` and ``dspex-worker asyncapi``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from worker import __version__
from worker.cli.printing import print_json
from worker.cli.running import EXIT_ERROR, EXIT_NOBODY, load_settings, run, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from worker.asyncapi import ProgramSchemas, Server
    from worker.client import Client
    from worker.settings import Settings

T = TypeVar("T")

_AT_ONCE = 16


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("schema")(schema)
    app.command("asyncapi")(asyncapi)


def schema(
    program: Annotated[str, typer.Argument(metavar="PROGRAM", help="The program's id.")],
    *,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the reply.")] = 60.0,
) -> None:
    """Print the JSON Schemas of a program's inputs and outputs.

    The workers are asked. Exits with 0 on success, 1 on an error reply, and 2 when nobody answers.
    """

    async def ask(client: Client) -> dict[str, Any]:
        return await client.call("describe", {"program_id": program})

    print_json(_with_client(ask, settings=load_settings(), timeout=timeout))


def asyncapi(
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody, and leave the programs out.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each reply.")] = 60.0,
) -> None:
    """Print the wire contract as an AsyncAPI 3 document.

    The workers are asked for their programs, whose inputs and outputs are in it. The broker's address and the namespace
    come from the settings. Exits with 0 on success, 1 on an error reply, and 2 when nobody answers.
    """
    settings = load_settings()
    programs = [] if offline else _with_client(_programs, settings=settings, timeout=timeout)
    from worker.amqp.topology import Topology
    from worker.asyncapi import Contract, write_document

    topology = Topology.of(namespace=settings.namespace, delays_ms=settings.delays_ms)
    print_json(write_document(Contract(__version__, _server(settings), topology, programs)))


def _with_client(ask: Callable[[Client], Coroutine[Any, Any, T]], *, settings: Settings, timeout: float) -> T:
    from worker.client import Client, ClientError, ReplyError

    url = settings.broker_url

    async def connected() -> T:
        async with Client(url, namespace=settings.namespace, timeout=timeout) as client:
            return await ask(client)

    try:
        return run(connected(), amqp_url=url)
    except ReplyError as error:
        raise stop(str(error), code=EXIT_ERROR) from None
    except ClientError as error:
        raise stop(str(error), code=EXIT_NOBODY) from None


async def _programs(client: Client) -> list[ProgramSchemas]:
    """Ask for all programs; one that is deleted meanwhile is left out."""
    ids = await _ids(client)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def describe(program_id: str) -> ProgramSchemas | None:
        async with turns:
            return await _describe(client, program_id)

    found = await asyncio.gather(*map(describe, ids))
    return [program for program in found if program is not None]


async def _ids(client: Client) -> list[str]:
    """Ask for page after page, for a page may be shorter than what was asked for."""
    ids: list[str] = []
    while True:
        listed = await client.call("list_programs", {"offset": len(ids)})
        ids += [program["id"] for program in listed["programs"]]
        if not listed["programs"] or len(ids) >= listed["total_count"]:
            return list(dict.fromkeys(ids))


async def _describe(client: Client, program_id: str) -> ProgramSchemas | None:
    from worker.asyncapi import ProgramSchemas
    from worker.client import ReplyError

    try:
        said = await client.call("describe", {"program_id": program_id})
    except ReplyError as error:
        if error.code == "program_not_found":
            return None
        raise
    return ProgramSchemas(program_id, said["inputs"], said["outputs"])


def _server(settings: Settings) -> Server:
    from yarl import URL

    from worker.asyncapi import Server

    url = URL(settings.amqp_url.get_secret_value())
    is_encrypted = url.scheme == "amqps"
    port = url.port or (5671 if is_encrypted else 5672)
    return Server(host=f"{url.host}:{port}", vhost=url.path[1:] or "/", is_encrypted=is_encrypted)
