"""The generated contract, as npm's AsyncAPI parser and a caller of the command line see it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.support.asyncapi_parser import ensure_parser, find_problems
from tests.support.processes import COMMAND, WorkerProcess, clean_environment
from worker.client import Client

HARD_NAMES = {
    "inputs": [{"name": name} for name in ("valid?", "user-id", "größe", "$ref", "__proto__", "constructor")],
    "outputs": [
        {"name": "scores", "type": "list<dict<string, integer?>>", "constraints": {"max_items": 3}},
        {"name": "kind", "constraints": {"enum": ["a", "b"]}, "default": "a"},
    ],
}

BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no version": lambda document: document["info"].pop("version"),
    "no channel": lambda document: document["operations"]["ping"].pop("channel"),
    "an action that there is not": lambda document: document["operations"]["ping"].update(action="answer"),
    "a message that is not there": lambda document: document["components"]["messages"].pop("ping.reply"),
    "a schema that is not there": lambda document: document["components"]["schemas"].pop("error_detail"),
    "no protocol": lambda document: document["servers"]["broker"].pop("protocol"),
    "a type that there is not": lambda document: document["components"]["schemas"]["usage"].update(type="record"),
    "a wrong binding": lambda document: document["channels"]["create"]["bindings"]["amqp"].update({"is": "topic"}),
}


@pytest.fixture(scope="module", autouse=True)
def parser() -> None:
    """Fetch the parser before the first time-out runs."""
    ensure_parser()


@pytest.fixture
def environment(amqp_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    return clean_environment(amqp_url=amqp_url, namespace=namespace, store_url=f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
async def programs(environment: dict[str, str], amqp_url: str, namespace: str) -> AsyncIterator[list[str]]:
    """A worker with four programs: a plain one, one with hard names, the legacy one and a fallback."""
    process = WorkerProcess(environment)
    await process.start()
    async with Client(amqp_url, namespace=namespace) as client:
        await client.create_program("text -> sentiment: string, confidence: probability", id="sentiment")
        await client.create_program(HARD_NAMES, id="hard/names#1")
        await client.create_program({}, id="legacy")
        await client.create_program("text -> label: strng", id="refused", fallback="create")
    yield ["sentiment", "hard.2fnames.231", "legacy", "refused"]
    await process.kill()


async def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env=environment, timeout=50, check=False
    )


async def test_the_document_without_programs_is_valid_and_needs_no_broker():
    """Nothing listens on the port that it names."""
    environment = clean_environment(amqp_url="amqp://guest:guest@127.0.0.1:1/", namespace="orders")
    done = await run("asyncapi", "--offline", environment=environment)

    assert done.returncode == 0, done.stderr
    assert await asyncio.to_thread(find_problems, done.stdout) == [[]]


async def test_the_document_with_programs_is_valid_and_the_same_each_time(programs, environment):
    """Each program has its operation, whatever its name and the names of its fields."""
    first, second = await asyncio.gather(*(run("asyncapi", environment=environment) for _ in range(2)))
    operations = json.loads(first.stdout)["operations"]

    assert first.returncode == 0, first.stderr
    assert all(f"execute_program.{key}" in operations for key in programs)
    assert await asyncio.to_thread(find_problems, first.stdout) == [[]]
    assert first.stdout == second.stdout


async def test_a_reply_of_a_worker_is_the_typed_message_of_its_program(programs, environment, amqp_url, namespace):
    """What was sent and what came are messages of the document."""
    document = json.loads((await run("asyncapi", environment=environment)).stdout)
    args = {"program_id": "sentiment", "inputs": {"text": "I love it"}}
    async with Client(amqp_url, namespace=namespace) as client:
        reply = await client.ask("execute_program", args)
    for kind, body in (("request", {"args": args}), ("reply", reply)):
        message = document["components"]["messages"][f"execute_program.{kind}.sentiment"]
        Draft7Validator({**message["payload"], "components": document["components"]}).validate(body)


async def test_schema_prints_the_schemas_of_a_program(programs, environment):
    """They are what the document says of it; a program that is not there is an error."""
    done, document, unknown = await asyncio.gather(
        run("schema", "sentiment", environment=environment),
        run("asyncapi", environment=environment),
        run("schema", "nobody", environment=environment),
    )
    said, schemas = json.loads(done.stdout), json.loads(document.stdout)["components"]["schemas"]

    assert (unknown.returncode, unknown.stdout, unknown.stderr) == (
        1,
        "",
        "program_not_found: Program not found: nobody\n",
    )
    assert said["inputs"] == schemas["inputs.sentiment"]
    assert said["outputs"]["properties"].items() <= schemas["outputs.sentiment"]["properties"].items()


async def test_without_a_worker_the_commands_say_so_at_once(environment, namespace):
    """Exit code 2, as with ``call``."""
    for command in (["schema", "sentiment"], ["asyncapi"]):
        done = await run(*command, environment=environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{namespace}.control" in done.stderr


async def test_a_document_with_a_part_missing_or_wrong_is_not_valid():
    """So the parser does read what the other tests have it read."""
    text = (await run("asyncapi", "--offline", environment=clean_environment())).stdout
    problems = await asyncio.to_thread(find_problems, *(broken(text, break_it) for break_it in BREAKS.values()))
    valid = [name for name, found in zip(BREAKS, problems, strict=True) if not found]

    assert valid == []


def broken(text: str, break_it: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(text)
    break_it(document)
    return json.dumps(document)
