"""Jobs as a sender might write them: random definitions in every spelling, and inputs that mostly fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from worker.errors import DefinitionError
from worker.signatures import Signature, parse, sample_outputs

NAMES = ["text", "answer", "valid?", "größe", "user-id", "signature", "class", "completed", "reasoning", "model_config"]
NAMES += [
    "f0",
    "f1",
    "名前",
    "e\u0301t\u00e9",
    "__init__",
    "question",
    "self",
    "inputs",
    "a b",
    "x/y~z",
    "demos",
    "items",
]
PROGRAM_IDS = [f"p{number}" for number in range(12)]
COMMANDS = ["ping", "list_programs", "get_program_info", "delete_program", "get_stats", "cleanup", "reset_state"]
COMMANDS += ["configure_lm", "cleanup_session", "get_session_data", "update_session_data", "shutdown", "cancel"]
COMMANDS += ["get_result", "set_flag", "get_flags", "describe", "create_gemini_program", "execute_gemini_program"]
COMMANDS += ["list_workers"]

_SCALARS = ["string", "str", ":text", "integer", "int", "float", "Number", "double", "boolean", "bool", "atom", "any"]
_SCALARS += ["map", "list", "embedding", ":probability", "confidence_score", "reasoning_chain", "object", "array"]
_NUMBERS = [-3, 0, 1, 2, 5, 0.5, 100, 1e6]
# Aliases of the handler: all of them the offline LM, asked in different formats.
ALIASES = {"full": "full", "strict": "strict"}
_PATTERNS = ["^[a-z]+$", r"\d{3}", "a|b", "^.{2,8}$", "(x+x+)+y", r"\p{L}"]
_FORMATS = ["date", "date-time", "time", "uuid", "email", "uri", "ipv4", "ipv6", "/^a/", "unheard-of"]
_PRESENCE: dict[str, Callable[[random.Random], object]] = {
    "required": lambda source: source.random() < 0.5,
    "optional": lambda source: source.random() < 0.5,
    "default": lambda source: source.choice([None, "a", 1, 0.5, True, [], {}]),
}
_CONSTRAINTS: dict[str, Callable[[random.Random], object]] = {
    **{key: lambda source: source.choice(_NUMBERS) for key in ("min", "max", "ge", "lte", "gt", "lt", "multipleOf")},
    **{key: lambda source: source.randint(0, 6) for key in ("min_length", "maxLength", "length", "max_items")},
    "minProperties": lambda source: source.randint(0, 2),
    "uniqueItems": lambda source: source.random() < 0.7,
    "pattern": lambda source: source.choice(_PATTERNS),
    "format": lambda source: source.choice(_FORMATS),
    "enum": lambda source: source.sample(["a", "b", "true", "1", 1, 2.5, True], source.randint(1, 4)),
    "description": lambda source: "what it means",
    **_PRESENCE,
}
# Type → constraints that fit it, so that what stands behind them is reached, too.
_FITTING: dict[str, list[str]] = {
    "string": ["pattern", "format", "min_length", "maxLength", "enum", "description"],
    "integer": ["min", "max", "gt", "lt", "multipleOf"],
    "float": ["ge", "lte", "gt", "lt", "multipleOf"],
    "list<integer>": ["max_items", "length", "uniqueItems"],
    "dict<string, string>": ["minProperties"],
}


def make_job(source: random.Random) -> dict[str, Any]:
    """Return a request: mostly create and execute, at times a control command."""
    draw = source.random()
    if draw < 0.08:
        return {"command": source.choice(COMMANDS), "id": source.randint(1, 9), "args": _control_args(source)}
    if draw < 0.30:
        return {"command": "create_program", "id": "c", "args": _create_args(source)}
    command = "execute_program" if draw < 0.95 else "execute_gemini_program"
    return {"command": command, "id": 7, "args": _execute_args(source)}


def make_definition(source: random.Random) -> Any:
    """Return a definition, as text or as an object."""
    if source.random() < 0.15:
        sides = [", ".join(f"{name}: {_text_type(source, 2)}" for name in _names(source)) for _ in range(2)]
        return " -> ".join(sides)
    names = _names(source, most=8)
    cut = source.randint(1, max(1, len(names) - 1))
    fields = [_field(source, name) for name in names]
    definition: dict[str, Any] = {
        "name": "Elixir.Fuzz",
        "description": "Do it.",
        "inputs": fields[:cut],
        "outputs": fields[cut:],
    }
    if source.random() < 0.3:
        definition["metadata"] = {"created_at": source.random()}
    return definition


def _create_args(source: random.Random) -> dict[str, Any]:
    args = {"id": source.choice(PROGRAM_IDS), **_definition_args(source), "replace": source.random() < 0.7}
    if source.random() < 0.1:
        del args["id"]
    if source.random() < 0.2:
        args["demos"] = [{"text": "a", "answer": "b"}, {"question": 1}][: source.randint(0, 2)]
    return args


def _execute_args(source: random.Random) -> dict[str, Any]:
    args: dict[str, Any] = {"inputs": dict.fromkeys(_names(source), "a")}
    if source.random() < 0.3:
        args["program_id"] = source.choice(PROGRAM_IDS)
    else:
        args |= _definition_args(source)
        args["inputs"] = _inputs(source, args["signature"])
    if source.random() < 0.3:
        args["options"] = source.choice(
            [[], {}, {"temperature": 0.5}, [["timeout_ms", 60_000]], {"include_reasoning": True}, {"max_lm_calls": 1}]
        )
    return args


def _definition_args(source: random.Random) -> dict[str, Any]:
    args: dict[str, Any] = {"signature": make_definition(source)}
    if source.random() < 0.6:
        args["fallback"] = source.choice(["never", "never", "create", "execute"])
    if source.random() < 0.2:
        args["program_type"] = source.choice(["predict", "chain_of_thought", "react"])
    if source.random() < 0.3:
        args["lm"] = source.choice([*ALIASES, "default", "unknown"])
    if source.random() < 0.1:
        args["config"] = source.choice([{"temperature": 0.1}, [["max_tokens", 10]], []])
    return args


def _control_args(source: random.Random) -> dict[str, Any]:
    args = {
        "program_id": source.choice(PROGRAM_IDS),
        "message_id": f"m{source.randint(0, 30)}",
        "flag": "dynamic_signatures",
        "name": "dynamic_signatures",
        "value": "on",
        "model": source.choice(["default", "gpt-4o"]),
        "api_key": "k",
    }
    return {key: value for key, value in args.items() if source.random() < 0.7}


def _names(source: random.Random, *, most: int = 3) -> list[str]:
    return source.sample(NAMES, source.randint(2, most))


def _field(source: random.Random, name: str) -> dict[str, Any]:
    is_fitting = source.random() < 0.5
    field: dict[str, Any] = {"name": name, "type": source.choice(list(_FITTING)) if is_fitting else _type(source, 3)}
    if source.random() < 0.4:
        known = _FITTING[field["type"]] if is_fitting else list(_CONSTRAINTS)
        keys = source.sample(known, source.randint(1, min(2, len(known))))
        given = {key: _CONSTRAINTS[key](source) for key in keys}
        field["constraints"] = given if source.random() < 0.7 else [list(pair) for pair in given.items()]
    if source.random() < 0.2:
        key = source.choice(list(_PRESENCE))
        field[key] = _PRESENCE[key](source)
    return field


def _type(source: random.Random, levels: int) -> Any:
    if levels == 0 or source.random() < 0.6:
        return _text_type(source, min(levels, 1))
    inner = [_type(source, levels - 1) for _ in range(2)]
    return source.choice(
        [
            ["list", inner[0]],
            {"list": inner[0]},
            {"type": "array", "items": inner[0]},
            ["dict", "string", inner[0]],
            {"type": "object", "additionalProperties": inner[0]},
            ["union", inner],
            {"anyOf": [*inner, "null"]},
            ["optional", inner[0]],
            {"type": "object", "properties": {"a": inner[0], "größe": inner[1]}, "required": ["a"]},
            {"type": inner[0], "description": "inside", "min": 1},
        ]
    )


def _text_type(source: random.Random, levels: int) -> str:
    if levels == 0 or source.random() < 0.6:
        return source.choice(_SCALARS)
    inner = _text_type(source, levels - 1)
    wraps = [f"list<{inner}>", f"{inner}?", f"Dict[str, {inner}]", f"{inner} | null", f"union<{inner}|int>"]
    return source.choice(wraps)


def _inputs(source: random.Random, definition: Any) -> dict[str, Any]:
    """Return inputs that fit, where the definition is one that they can fit to."""
    try:
        signature = parse(definition)
        turned = Signature("Turned", "", signature.outputs, signature.inputs)
        return dict(sample_outputs(turned, seed=str(source.random())))
    except (DefinitionError, ValueError):
        return {"text": "a"}
