"""Check arguments before anything is sent, and write them as the wire has them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from worker.client.errors import ArgumentError
from worker.message import dump

# As deep as the wire takes a body.
_MAX_DEPTH = 100


def create_args(signature: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``create_program``; those that are None are left out.

    Raises:
        ArgumentError: One has the wrong type.
    """
    args = {name: value for name, value in given.items() if value is not None}
    if "config" in args:
        args["config"] = _mapping(args["config"], "config")
    if "demos" in args:
        args["demos"] = _demos(args["demos"])
    return {"signature": _signature(signature), **args}


def execute_args(program_id: object, inputs: object, options: object) -> dict[str, Any]:
    """Return the arguments of ``execute_program`` for a program.

    Raises:
        ArgumentError: One has the wrong type.
    """
    if not isinstance(program_id, str):
        told = f"program_id must be a string, not {_described(program_id)}; to run a signature, use predict()"
        raise ArgumentError(told, field="program_id")
    return {"program_id": program_id, "inputs": _mapping(inputs, "inputs"), "options": _options(options)}


def predict_args(signature: object, inputs: object, options: object) -> dict[str, Any]:
    """Return the arguments of ``execute_program`` for a signature; ``fallback`` is ``never`` unless the options say.

    Raises:
        ArgumentError: One has the wrong type.
    """
    given = _options(options)
    args = {"inputs": _mapping(inputs, "inputs"), "fallback": given.get("fallback", "never"), "options": given}
    return {"signature": _signature(signature), **args}


def job_args(program: object, inputs: object, options: object) -> dict[str, Any]:
    """Return the arguments of ``execute_program`` for a program's id, or a signature: a dict, or a text with ``->``.

    Raises:
        ArgumentError: One has the wrong type.
    """
    if isinstance(program, str) and "->" not in program:
        return execute_args(program, inputs, options)
    return predict_args(program, inputs, options)


def check_rerun(rerun_of: object, message_id: str | None) -> None:
    """Refuse a wish for another run that names no run.

    Raises:
        ArgumentError: It is no generation, or names no job.
    """
    if rerun_of is None:
        return
    if not isinstance(rerun_of, int) or isinstance(rerun_of, bool) or rerun_of < 0:
        told = f"rerun_of must be the generation of the failed reply, a whole number of at least 0, not {rerun_of!r}"
        raise ArgumentError(told, field="rerun_of")
    if not message_id:
        raise ArgumentError("rerun_of needs the message_id of the job that failed", field="message_id")


def check_in_flight(count: object) -> None:
    """Refuse a bound of rows that is none.

    Raises:
        ArgumentError: It is no whole number of at least 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        told = f"max_in_flight must be a whole number of at least 1, not {count!r}"
        raise ArgumentError(told, field="max_in_flight")


def encode(command: str, args: Mapping[str, Any]) -> bytes:
    """Write a request's body.

    Raises:
        ArgumentError: A value cannot be sent as JSON; the sentence names its place and type, and does not quote it.
    """
    try:
        return dump({"command": command, "args": dict(args)})
    except (TypeError, ValueError, RecursionError) as error:
        path, what = next(_unsendable(args), ("", str(error)))
        names = path.strip("/").split("/")
        field = names[1] if names[0] == "inputs" and len(names) > 1 else names[0]
        raise ArgumentError(f"{path or 'The request'} cannot be sent as JSON: {what}", field=field) from error


def _signature(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    accepted = "a dict with `inputs` and `outputs`, or a string such as 'text -> label: string'"
    raise ArgumentError(f"signature must be {accepted}, not {_described(value)}", field="signature")


def _mapping(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} must be a mapping of name → value, not {_described(value)}", field=name)
    for key in value:
        if not isinstance(key, str):
            raise ArgumentError(f"{name} has the key {key!r}: names are strings", field=name)
    return dict(value)


def _options(value: object) -> dict[str, Any]:
    return {} if value is None else _mapping(value, "options")


def _demos(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentError(f"demos must be a list of mappings, not {_described(value)}", field="demos")
    return [_mapping(demo, "demos") for demo in value]


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else _type(value)


def _type(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _unsendable(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the place of each value that JSON does not hold, and what it is."""
    if depth > _MAX_DEPTH:
        yield path[:200], f"it is nested deeper than {_MAX_DEPTH} levels"
    elif isinstance(value, dict):
        for key, member in value.items():
            if isinstance(key, str | int | float | bool | None):
                yield from _unsendable(member, f"{path}/{key}", depth + 1)
            else:
                yield path, f"it has a key {_type(key)}"
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from _unsendable(member, f"{path}/{index}", depth + 1)
    elif reason := _reason(value):
        yield path, reason


def _reason(value: object) -> str:
    match value:
        case None | bool() | int():
            return ""
        case float():
            return "" if math.isfinite(value) else f"it is {value}"
        case str():
            return "it holds half of a surrogate pair" if any("\ud800" <= one <= "\udfff" for one in value) else ""
        case _:
            return f"it is {_type(value)}"
