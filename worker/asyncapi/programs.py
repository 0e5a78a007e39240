"""Typed messages for the programs that workers know: what ``execute_program`` takes and gives for one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.asyncapi.messages import Message, envelope, success
from worker.asyncapi.schemas import Schema, or_null, or_pairs, text, to

_REFERENCE = "$ref"
# Readers written in JavaScript stumble over fields with these names.
_AS_PATTERN = (_REFERENCE, "__proto__")
_DATA = frozenset(("default", "enum", "const", "examples"))
_OUTSIDE_KEY = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class ProgramSchemas:
    """What ``describe`` says of a program.

    Attributes:
        program_id: Its name.
        inputs: JSON Schema of its inputs, an object.
        outputs: JSON Schema of its outputs, an object.
    """

    program_id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its name in the document: characters that AsyncAPI does not take in names are written ``.hh``, in hex."""
        return _OUTSIDE_KEY.sub(lambda found: f".{ord(found[0]):02x}", self.program_id)

    @property
    def request(self) -> str:
        """The name of its request."""
        return f"execute_program.request.{self.key}"

    @property
    def reply(self) -> str:
        """The name of its reply."""
        return f"execute_program.reply.{self.key}"

    @property
    def request_channel(self) -> str:
        """The name of the channel that takes its requests."""
        return f"execute.{self.key}"

    @property
    def reply_channel(self) -> str:
        """The name of the channel that its replies go to."""
        return f"reply.{self.key}"


def program_schemas(program: ProgramSchemas) -> dict[str, Schema]:
    """Return the schemas of a program's inputs and outputs, by name."""
    return {
        f"inputs.{program.key}": _spelled(program.inputs),
        f"outputs.{program.key}": _spelled(_with_reasoning(program.outputs)),
    }


def program_messages(program: ProgramSchemas) -> dict[str, Message]:
    """Return the messages that run a program, by name."""
    named = {"title": f"execute_program: {program.program_id}", "x-program-id": program.program_id}
    return {
        program.request: {
            "name": program.request,
            **named,
            "payload": envelope(_args(program), command="execute_program", is_default=True, is_needed=True),
            "traits": [to("messageTraits", "request")],
        },
        program.reply: {
            "name": program.reply,
            **named,
            "payload": success(_result(program)),
            "traits": [to("messageTraits", "reply")],
        },
    }


def _args(program: ProgramSchemas) -> Schema:
    return {
        "type": "object",
        "properties": {
            "program_id": {"const": program.program_id},
            "inputs": to("schemas", f"inputs.{program.key}"),
            "options": or_null(or_pairs(to("schemas", "Options"))),
        },
        "required": ["program_id", "inputs"],
    }


def _result(program: ProgramSchemas) -> Schema:
    """Return the schema of a result: as declared where it ran as declared, else an answer in plain text."""
    answer = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    return {
        "allOf": [to("schemas", "execute_program.result")],
        "properties": {"program_id": {"const": program.program_id}},
        "if": {"properties": {"is_dynamic": {"const": True}}},
        "then": {"properties": {"outputs": to("schemas", f"outputs.{program.key}")}},
        "else": {"properties": {"outputs": answer}},
    }


def _with_reasoning(outputs: Mapping[str, Any]) -> Schema:
    """Let the chain of thought stand beside the declared outputs; a declared field of its name pushes it aside."""
    properties = outputs.get("properties", {})
    name = "_reasoning"
    while name in properties:
        name += "_"
    return {**outputs, "properties": {**properties, name: text("The chain of thought, with `include_reasoning`.")}}


def _spelled(schema: Any) -> Any:
    """Copy a schema so that nothing in it looks like a reference but is none.

    Tools follow whatever says ``$ref``, in data too: a default or a choice that holds it is left out, and fields with names
    that mean something to tools are spelled as patterns.
    """
    if isinstance(schema, list):
        return [_spelled(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    words = {word: value for word, value in schema.items() if not (word in _DATA and _holds_reference(value))}
    members = {name: _spelled(one) for name, one in words.pop("properties", {}).items()}
    written = {word: value if word in _DATA else _spelled(value) for word, value in words.items()}
    patterns = {f"^{re.escape(name)}$": members.pop(name) for name in _AS_PATTERN if name in members}
    if patterns:
        written["patternProperties"] = patterns
    return written | ({"properties": members} if "properties" in schema else {})


def _holds_reference(value: object) -> bool:
    if isinstance(value, Mapping):
        return _REFERENCE in value or any(map(_holds_reference, value.values()))
    return isinstance(value, list) and any(map(_holds_reference, value))
