"""The AsyncAPI document says what the workers do; tests/acceptance has npm's parser read it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from typer.testing import CliRunner

import worker.client
from tests.support.left_hand import SENTIMENT, make_settings, open_left_hand
from worker.amqp.copies import LETTER_HEADERS
from worker.amqp.topology import Topology
from worker.asyncapi import COMMANDS, Contract, ProgramSchemas, Server, write_document
from worker.cli import app
from worker.client import NoWorkerError, ReplyError
from worker.errors import WorkerError
from worker.message import INTERNAL_HEADERS, LANES, dump

# These hold no messages: other tests read them.
_OTHERS = ("values", "result_statuses")
GOLDEN = sorted(path for path in (Path(__file__).parents[1] / "contract").glob("*.json") if path.stem not in _OTHERS)
TOPOLOGY = Topology.of(namespace="orders")
INPUTS = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
OUTPUTS = {
    "type": "object",
    "properties": {"label": {"enum": ["a", "b"]}},
    "required": ["label"],
    "additionalProperties": False,
}
SENTENCE = {
    "error": "Program not found: gone",
    "error_detail": {"code": "program_not_found", "message": "Program not found: gone"},
}

# Arguments that each command takes; a program `p` and a job `m` are there.
SAMPLES: dict[str, Any] = {
    "create_program": {"id": "q", "signature": SENTIMENT, "config": [["temperature", 0.5]], "options": []},
    "execute_program": {"program_id": "p", "inputs": {"text": "fine"}, "options": []},
    "create_gemini_program": {"id": "g", "signature": "a -> b", "model": "gemini-1.5-flash"},
    "execute_gemini_program": {"program_id": "p", "inputs": {"text": "fine"}},
    "get_program_info": {"program_id": "p"},
    "describe": {"program_id": "p"},
    "delete_program": {"program_id": "p"},
    "get_result": {"message_id": "m"},
    "cancel": {"message_id": "m"},
    "set_flag": {"name": "dynamic_signatures", "value": "on"},
    "configure_lm": {"model": "default"},
    "cleanup_session": {"session_id": "s"},
    "get_session_data": {"session_id": "s"},
    "update_session_data": {"session_id": "s"},
}


def write(*programs: ProgramSchemas, topology: Topology = TOPOLOGY) -> dict[str, Any]:
    return write_document(Contract("1.2.3", Server("broker.example:5672"), topology, programs))


def payload(document: dict[str, Any], message: str) -> Draft7Validator:
    """Return what checks the body of a message."""
    return within(document, document["components"]["messages"][message]["payload"])


def within(document: dict[str, Any], schema: dict[str, Any]) -> Draft7Validator:
    return Draft7Validator({**schema, "components": document["components"]})


def component(document: dict[str, Any], name: str) -> Draft7Validator:
    return within(document, {"allOf": [{"$ref": f"#/components/schemas/{name}"}]})


def reply_message(golden: dict[str, Any]) -> str:
    return f"{golden['command']}.reply" if golden["reply"]["body"]["success"] else "error.reply"


def leaves(kind: type[WorkerError]) -> Iterator[type[WorkerError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == "worker.errors"]
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


# The document and the code.


async def test_each_command_is_an_operation_with_its_request_and_replies(tmp_path):
    """No command of the workers is missing, and none is made up."""
    operations = write()["operations"]
    async with open_left_hand(tmp_path) as left_hand:
        known = {*left_hand.commands.once, *left_hand.questions.answers}

    assert known == {command.name for command in COMMANDS}
    for command in COMMANDS:
        operation = operations[command.name]
        [request] = operation["messages"]
        assert request["$ref"] == f"#/channels/{command.lane}/messages/{command.name}.request"
        assert operation["reply"]["messages"][-1]["$ref"] == "#/channels/reply/messages/error.reply"


def test_each_error_code_is_in_the_document_with_what_the_tree_says_of_it():
    """Code, recoverable, prefix and meaning."""
    code = write()["components"]["schemas"]["error_detail"]["properties"]["code"]
    expected = [(kind.code, kind.recoverable, kind.prefix) for kind in leaves(WorkerError)]

    assert code["enum"] == [name for name, _, _ in expected]
    assert expected == [(one["code"], one["recoverable"], one["error_starts_with"]) for one in code["x-codes"]]


def test_each_queue_and_exchange_is_a_channel_with_its_arguments():
    """The topology is the workers' own, so names and arguments are those that they declare."""
    channels = write()["channels"]
    queues = {
        channel["bindings"]["amqp"]["queue"]["name"]: channel["x-queue-arguments"]
        for channel in channels.values()
        if "x-queue-arguments" in channel
    }
    exchanges = {
        channel["bindings"]["amqp"]["exchange"]["name"]
        for channel in channels.values()
        if "exchange" in channel.get("bindings", {}).get("amqp", {})
    }

    assert exchanges == {exchange.name for exchange in TOPOLOGY.exchanges if exchange.kind == "direct"}
    assert {queue.name: queue.arguments for queue in TOPOLOGY.queues} == queues


def test_any_command_may_go_to_any_work_queue_and_through_the_exchange():
    """The queue only chooses the lane."""
    expected = {f"{command.name}.request" for command in COMMANDS}

    for channel in (*LANES, "exchange"):
        assert expected == set(write()["channels"][channel]["messages"])


def test_each_header_of_a_dead_letter_is_in_the_document():
    """Why it failed, its trail and what the sender gave."""
    headers = write()["components"]["schemas"]["dead_letter_headers"]["properties"]

    assert {*LETTER_HEADERS, *INTERNAL_HEADERS} <= set(headers)


def test_the_same_contract_gives_the_same_bytes():
    """Whatever the order in which workers list their programs."""
    first, second = ProgramSchemas("a", INPUTS, OUTPUTS), ProgramSchemas("b", OUTPUTS, INPUTS)

    assert dump(write(first, second)) == dump(write(second, first))


def test_every_reference_leads_somewhere():
    """Within the document; nothing is fetched."""
    document = write(ProgramSchemas("we/ird", INPUTS, OUTPUTS))

    for reference in references(document):
        assert reference.startswith("#/")
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_every_schema_is_one():
    """JSON Schema draft 7, which is what AsyncAPI takes by itself."""
    document = write(ProgramSchemas("p", INPUTS, OUTPUTS))
    schemas = [*document["components"]["schemas"].values()]
    schemas += [message["payload"] for message in document["components"]["messages"].values()]

    for schema in schemas:
        Draft7Validator.check_schema(schema)


# Messages.


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_each_golden_message_is_one_of_the_document(path):
    """Bodies, headers and properties of requests and replies."""
    document, golden = write(), json.loads(path.read_text())
    if golden["command"] != "fly":
        payload(document, f"{golden['command']}.request").validate(golden["request"]["body"])
    payload(document, reply_message(golden)).validate(golden["reply"]["body"])
    for side in ("request", "reply"):
        component(document, f"{side}_headers").validate(golden[side]["headers"])
        component(document, f"{side}_properties").validate(golden[side]["properties"])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_reply_without_a_required_part_is_none(path):
    """Each member of the body, and each of its result or its error."""
    golden = json.loads(path.read_text())
    validator, body = payload(write(), reply_message(golden)), golden["reply"]["body"]
    inside = "result" if body["success"] else "error_detail"
    for name in body:
        assert not validator.is_valid({key: value for key, value in body.items() if key != name}), name
    for name in body[inside]:
        short = copy.deepcopy(body)
        del short[inside][name]
        assert not validator.is_valid(short), name


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("execute_program.request", {"id": 1}),
        ("execute_program.request", {"args": {"inputs": {}}}),
        ("execute_program.request", {"args": {"program_id": "x" * 1_025}}),
        ("execute_program.request", {"args": {"program_id": "p", "options": {"max_lm_calls": 0}}}),
        ("execute_program.request", {"command": "ping", "args": {"program_id": "p"}}),
        ("execute_program.request", {"args": {"program_id": "p"}, "surplus": 1}),
        ("create_program.request", {"args": {"signature": 7}}),
        ("create_program.request", {"args": {"signature": "a -> b", "fallback": "maybe"}}),
        ("ping.request", {}),
        ("get_result.request", {"command": "get_result", "args": {}}),
    ],
)
def test_a_wrong_request_is_none(message, body):
    """What a worker refuses as ``invalid_request`` or ``unknown_command``."""
    assert not payload(write(), message).is_valid(body)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
async def test_what_a_worker_answers_is_what_the_document_says(tmp_path, command):
    """The sample is a request of the document, and the reply has its members: those, and no others."""
    document, args = write(), SAMPLES.get(command.name, {})
    payload(document, f"{command.name}.request").validate({"command": command.name, "id": 1, "args": args})
    async with open_left_hand(tmp_path, make_settings()) as left_hand:
        await left_hand.create(SENTIMENT, id="p")
        reply = await left_hand.call(command.name, args)

    if not reply["success"]:
        assert command.name in MAY_FAIL, reply
        payload(document, "error.reply").validate(reply)
        return
    payload(document, f"{command.name}.reply").validate(reply)
    assert set(reply["result"]) <= set((command.result or {}).get("properties", {})), "a member is not documented"


MAY_FAIL = {"cleanup", "reset_state", "configure_lm", "shutdown"}


# Programs.


def test_a_program_adds_a_request_and_a_reply_with_its_own_fields():
    """Values that do not fit its declaration are no messages of its."""
    document = write(ProgramSchemas("sentiment_v2", INPUTS, OUTPUTS))
    request = payload(document, "execute_program.request.sentiment_v2")
    body: dict[str, Any] = {"args": {"program_id": "sentiment_v2", "inputs": {"text": "fine"}, "options": []}}
    operation = document["operations"]["execute_program.sentiment_v2"]

    request.validate(body)
    for wrong in ({}, {"text": 1}, {"text": "fine", "more": 1}):
        assert not request.is_valid({"args": {**body["args"], "inputs": wrong}})
    assert operation["messages"] == [
        {"$ref": "#/channels/execute.sentiment_v2/messages/execute_program.request.sentiment_v2"}
    ]


@pytest.mark.parametrize(
    ("outputs", "is_dynamic", "expected"),
    [
        ({"label": "a"}, True, True),
        ({"label": "c"}, True, False),
        ({"label": "a", "_reasoning": "because"}, True, True),
        ({"label": "a", "more": "because"}, True, False),
        ({"answer": "a"}, True, False),
        ({"answer": "a"}, False, True),
        ({"label": "a"}, False, False),
    ],
)
def test_a_reply_of_a_program_is_typed_where_it_ran_as_declared(outputs, is_dynamic, expected):
    """A fallback answers in plain text, and says so."""
    document = write(ProgramSchemas("sentiment", INPUTS, OUTPUTS))
    [path] = [path for path in GOLDEN if path.stem == "execute_program"]
    reply = json.loads(path.read_text())["reply"]["body"]
    reply["result"] |= {"outputs": outputs, "is_dynamic": is_dynamic}

    assert expected == payload(document, "execute_program.reply.sentiment").is_valid(reply)


def test_every_name_of_a_program_has_a_place_of_its_own():
    """AsyncAPI takes letters, digits, ``.``, ``-`` and ``_`` in names; two names never become one."""
    names = ["a.b", "a/b", "a.2fb", "a_b", "a b", "ä", "~0", "{x}", "$ref"]
    keys = [ProgramSchemas(name, {}, {}).key for name in names]

    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_") for key in keys)
    assert len(set(keys)) == len(names)


def test_nothing_in_a_program_can_pass_for_a_reference():
    """A tool that reads the document would fetch it."""
    outside = {"$ref": "http://127.0.0.1:9/secret"}
    inputs = {
        "type": "object",
        "properties": {
            "$ref": {"type": "string"},
            "__proto__": {"type": "string"},
            "a": {"default": [outside]},
            "default": {"type": "object", "properties": {"b": {"enum": [outside, 1]}}},
        },
        "required": ["$ref"],
        "additionalProperties": False,
    }
    document = write(ProgramSchemas("p", inputs, OUTPUTS))
    request = payload(document, "execute_program.request.p")

    assert all(reference.startswith("#/") for reference in references(document))
    assert request.is_valid({"args": {"program_id": "p", "inputs": {"$ref": "x", "__proto__": "y", "default": {}}}})
    assert not request.is_valid({"args": {"program_id": "p", "inputs": {"$ref": 1}}})


# Command line.


class FakeClient:
    """Stands in for `worker.client.Client`: two programs are listed, one of them is gone a moment later."""

    error: ClassVar[Exception | None] = None

    def __init__(self, url: str, *, namespace: str = "dspex", timeout: float = 60.0) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def call(self, command: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        if command == "list_programs":
            return {"programs": [{"id": "gone"}, {"id": "sentiment"}], "total_count": 2}
        if (args or {})["program_id"] == "gone":
            raise ReplyError(SENTENCE)
        return {"program_id": "sentiment", "inputs": INPUTS, "outputs": OUTPUTS}


@pytest.fixture
def invoke(monkeypatch) -> Callable[..., Any]:
    """Run the command line with the fake client."""
    monkeypatch.setattr(worker.client, "Client", FakeClient)
    monkeypatch.setattr(FakeClient, "error", None)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_schema_prints_what_describe_says(invoke):
    """Inputs and outputs, ready for a validator."""
    done = invoke("schema", "sentiment")

    assert (done.exit_code, json.loads(done.stdout)) == (
        0,
        {"program_id": "sentiment", "inputs": INPUTS, "outputs": OUTPUTS},
    )


@pytest.mark.parametrize("command", [["schema", "gone"], ["asyncapi"]])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ReplyError(SENTENCE | {"error_detail": {"code": "internal"}}), 1, "internal: Program not found: gone\n"),
        (NoWorkerError("No worker consumes dspex.control"), 2, "No worker consumes dspex.control\n"),
    ],
)
def test_exit_codes_are_those_of_call(invoke, monkeypatch, command, error, code, message):
    """1 on an error reply, 2 when nobody answers; stdout stays empty for the machine that reads it."""
    monkeypatch.setattr(FakeClient, "error", error)
    done = invoke(*command)

    assert (done.exit_code, done.stdout, done.stderr) == (code, "", message)


def test_asyncapi_has_the_programs_that_are_still_there(invoke):
    """One that is deleted while the document is written is left out."""
    done = invoke("asyncapi")
    operations = json.loads(done.stdout)["operations"]

    assert "execute_program.sentiment" in operations
    assert "execute_program.gone" not in operations


def test_asyncapi_offline_asks_nobody_and_names_broker_and_namespace_of_the_settings(invoke, monkeypatch):
    """The password stays where it is."""
    monkeypatch.setattr(FakeClient, "error", NoWorkerError("asked"))
    monkeypatch.setenv("DSPEX_AMQP_URL", "amqps://user:secret@broker.example/team%2Fa")
    monkeypatch.setenv("DSPEX_NAMESPACE", "orders")
    done = invoke("asyncapi", "--offline")
    document = json.loads(done.stdout)
    server = document["servers"]["broker"]

    assert "secret" not in done.stdout
    assert document["channels"]["create"]["address"] == "orders.create"
    assert (server["protocol"], server["host"], server["pathname"]) == ("amqps", "broker.example:5671", "/team%2Fa")


def test_writing_the_document_loads_neither_dspy_nor_the_broker_library():
    """It is made of values."""
    script = (
        "import sys, worker.asyncapi; print(sorted({'dspy', 'aio_pika', 'sqlalchemy', 'litellm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
