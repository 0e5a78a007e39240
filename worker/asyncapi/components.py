"""Schemas that several messages share, and those of the models that workers read arguments with."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from worker.asyncapi.schemas import (
    ANY,
    BOOLEAN,
    COUNT,
    NUMBER,
    OBJECT,
    PERCENT,
    SHARE,
    TEXT,
    TIME,
    Schema,
    list_of,
    or_null,
    or_pairs,
    record,
    text,
    to,
)
from worker.message import CreateArgs, ExecuteArgs


class _Untitled(GenerateJsonSchema):
    """A title that only repeats the name of its field says nothing."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def shared_schemas() -> dict[str, Schema]:
    """Return the components that arguments and results refer to, by name."""
    definitions = {**_model(CreateArgs).pop("$defs", {}), **_model(ExecuteArgs).pop("$defs", {})}
    return {name: {**one, "title": name} for name, one in sorted(definitions.items())} | {
        "pairs": {
            "type": "array",
            "description": "An encoded keyword list: names and values, no name twice. `[]` is the empty one.",
            "items": {"type": "array", "items": [TEXT, ANY], "minItems": 2, "maxItems": 2},
        },
        "program_id": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$", "description": "A program's name."},
        "signature": _signature(),
        "field": _field(),
        "usage": record(
            {
                "lm_calls": {**COUNT, "description": "LM calls made, over all attempts."},
                "prompt_tokens": COUNT,
                "completion_tokens": COUNT,
                "cost_usd": {**or_null(NUMBER), "description": "An estimate; null where no price is known."},
            }
        ),
        "warnings": {
            **list_of({"anyOf": [TEXT, to("schemas", "error_detail")]}),
            "description": "What the worker noticed and went on with; sentences, and the error that a fallback hides.",
        },
        "flags": record(
            {"dynamic_signatures": {"enum": ["on", "off", "force_off"]}, "dynamic_signatures_rollout": PERCENT}
        ),
        "share_by_type": record(
            {"dynamic": COUNT, "legacy": COUNT, "fallback": COUNT, "dynamic_share": or_null(SHARE)}
        ),
        "program": record(
            {
                "id": to("schemas", "program_id"),
                "created_at": TIME,
                "execution_count": COUNT,
                "last_executed": or_null(TIME),
                "signature": {**ANY, "description": "As sent."},
            }
        ),
    }


def _model(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(ref_template="#/components/schemas/{model}", schema_generator=_Untitled)


def args_of(model: type[BaseModel]) -> Schema:
    """Return the schema of a command's arguments, with what only the validators of its model know put in."""
    schema = _model(model)
    schema.pop("$defs", None)
    properties = schema["properties"]
    properties["signature"] = or_null(to("schemas", "signature"))
    properties["program_type"] = {"enum": ["predict", "chain_of_thought"], "default": "predict"}
    for name, component in (("config", "ProgramConfig"), ("options", "Options")):
        if name in properties:
            properties[name] = or_null(or_pairs(to("schemas", component)))
    if "inputs" in properties:
        properties["inputs"] = {"type": "object", "description": "Input field → value."}
    return schema


def _signature() -> Schema:
    definition = record(
        {
            "name": TEXT,
            "description": text("Instructions for the model."),
            "inputs": list_of(to("schemas", "field")),
            "outputs": list_of(to("schemas", "field")),
            "metadata": {**OBJECT, "description": "Ignored."},
        },
        required=(),
    )
    return {
        "description": "A definition, or a string such as `question, context: list<string> -> answer: string`.",
        "anyOf": [TEXT, definition],
    }


def _field() -> Schema:
    constraints = or_pairs(OBJECT)
    return record(
        {
            "name": TEXT,
            "type": {
                "anyOf": [TEXT, {"type": "array"}, OBJECT],
                "default": "string",
                "description": '`string`, `list<integer>`, `["list", "integer"]`, a schema object, …',
            },
            "description": TEXT,
            "required": {**BOOLEAN, "default": True},
            "constraints": constraints,
        },
        required=["name"],
    )
