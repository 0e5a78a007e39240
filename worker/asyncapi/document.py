"""The document itself: servers and operations around channels and messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from worker.asyncapi.channels import channels
from worker.asyncapi.commands import COMMANDS, Command
from worker.asyncapi.components import shared_schemas
from worker.asyncapi.contract import Contract, Server
from worker.asyncapi.messages import BINDING_VERSION, DEAD_LETTER, ERROR, message_schemas, messages, traits
from worker.asyncapi.programs import ProgramSchemas, program_messages, program_schemas
from worker.asyncapi.schemas import to
from worker.message import LANES

Part = dict[str, Any]

_DESCRIPTION = """\
DSPy programs as RabbitMQ jobs. Publish a request to one of the three work queues, with the properties `reply_to` and
`correlation_id`; the reply comes to `reply_to`. The document describes the workers: what they receive is what you send.

Any command is accepted on any work queue; the queue only chooses the lane. Publish persistent messages with a publisher
confirm. A reply may come more than once: drop what is answered already."""


def write_document(contract: Contract) -> Part:
    """Write the AsyncAPI 3.0 document of a contract, ready for JSON."""
    programs = sorted(contract.programs, key=lambda one: one.program_id)
    return {
        "asyncapi": "3.0.0",
        "id": f"urn:dspex-worker:{quote(contract.topology.namespace)}",
        "info": {
            "title": "dspex-worker",
            "version": contract.version,
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": _server(contract.server)},
        "channels": channels(contract, programs),
        "operations": _operations(programs),
        "components": _components(programs),
    }


def _server(server: Server) -> Part:
    return {
        "host": server.host,
        "pathname": f"/{quote(server.vhost, safe='')}",
        "protocol": "amqps" if server.is_encrypted else "amqp",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ.",
        "security": [to("securitySchemes", "login")],
    }


def _components(programs: Sequence[ProgramSchemas]) -> Part:
    schemas, written = {**shared_schemas(), **message_schemas()}, messages()
    for program in programs:
        schemas |= program_schemas(program)
        written |= program_messages(program)
    return {
        "schemas": schemas,
        "messages": written,
        "messageTraits": traits(),
        "correlationIds": {
            "correlation_id": {
                "description": "The AMQP property `correlation_id`, copied from request to reply.",
                "location": "$message.header#/correlation_id",
            }
        },
        "replyAddresses": {
            "reply_to": {
                "description": "The AMQP property `reply_to` of the request.",
                "location": "$message.header#/reply_to",
            }
        },
        "securitySchemes": {"login": {"type": "userPassword", "description": "A user of the broker."}},
    }


def _operations(programs: Sequence[ProgramSchemas]) -> dict[str, Part]:
    written = {command.name: _command(command) for command in COMMANDS}
    for program in programs:
        written[f"execute_program.{program.key}"] = _program(program)
    for lane in LANES:
        written[f"{lane}_dead_letter"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{lane}_dead"},
            "title": f"Dead letter of {lane}",
            "messages": [_message(f"{lane}_dead", DEAD_LETTER)],
        }
    return written


def _program(program: ProgramSchemas) -> Part:
    replies, channel = [program.reply, ERROR], program.request_channel
    return {
        "title": f"execute_program: {program.program_id}",
        "summary": f"Run the program {program.program_id}.",
        **_receive(program.request, channel=channel, replies=replies, reply_channel=program.reply_channel),
    }


def _command(command: Command) -> Part:
    replies = [ERROR] if command.result is None else [f"{command.name}.reply", ERROR]
    return {
        "title": command.name,
        "summary": command.summary,
        **_receive(f"{command.name}.request", channel=command.lane, replies=replies, reply_channel="reply"),
    }


def _receive(request: str, *, channel: str, replies: Sequence[str], reply_channel: str) -> Part:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [_message(channel, request)],
        "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING_VERSION}},
        "reply": {
            "address": to("replyAddresses", "reply_to"),
            "channel": {"$ref": f"#/channels/{reply_channel}"},
            "messages": [_message(reply_channel, name) for name in replies],
        },
    }


def _message(channel: str, name: str) -> Part:
    return {"$ref": f"#/channels/{channel}/messages/{name}"}
