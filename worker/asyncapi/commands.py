"""Every command of the wire, with its arguments and its result.

The arguments of create and execute come from the models that workers read them with; the others are few and stand here.
Results are listed with all their members, and all of them are required.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from worker.asyncapi.components import args_of
from worker.asyncapi.schemas import (
    ANY,
    BOOLEAN,
    COUNT,
    NUMBER,
    OBJECT,
    PERCENT,
    SECONDS,
    TEXT,
    TIME,
    Schema,
    list_of,
    or_null,
    record,
    text,
    to,
)
from worker.message import CANCEL_STATUSES, RESULT_STATUSES, CreateArgs, ExecuteArgs, Lane


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: As in ``command``.
        lane: The queue that it is meant for; any other one takes it too.
        summary: What it does, in a few words.
        args: Schema of its arguments as an object.
        result: Schema of ``result`` in a success; None where no success exists.
    """

    name: str
    lane: Lane
    summary: str
    args: Schema
    result: Schema | None

    @property
    def is_default(self) -> bool:
        """Whether its queue's name says it already, so that ``command`` may be left out."""
        return self.name == f"{self.lane}_program"


_PROGRAM_ID: Mapping[str, Schema] = {"program_id": to("schemas", "program_id")}
_MESSAGE_ID: Mapping[str, Schema] = {"message_id": text("The job's `message_id` property.")}
_NOTHING = record({})
_ONE_PROGRAM = record(_PROGRAM_ID)
_ONE_JOB = record(_MESSAGE_ID)
_ORIGIN: Mapping[str, Schema] = {
    "signature_fingerprint": or_null(TEXT),
    "program_version": or_null(COUNT),
    "is_dynamic": {**BOOLEAN, "description": "Whether the signature runs as declared."},
    "fallback_used": BOOLEAN,
    "fallback_reason": {**or_null(TEXT), "description": "`<code>: <message>` of what was refused."},
}
_GEMINI: Mapping[str, Schema] = {"type": TEXT, "model_name": or_null(TEXT), "raw_response": {"type": "null"}}
_SESSION: Mapping[str, Schema] = {"status": TEXT, "session_id": ANY, "message": TEXT}


def _status(status: str, more: Mapping[str, Schema]) -> Schema:
    return record({"status": {"const": status}, **more})


_CREATED: Mapping[str, Schema] = {
    **_PROGRAM_ID,
    "status": {"const": "created"},
    "signature": {**ANY, "description": "As sent."},
    "signature_def": {**ANY, "description": "As sent."},
    "signature_normalized": or_null(OBJECT),
    "signature_class": or_null(TEXT),
    "field_mapping": {"type": "object", "additionalProperties": TEXT},
    "program_type": TEXT,
    **_ORIGIN,
    "warnings": to("schemas", "warnings"),
}
_EXECUTED: Mapping[str, Schema] = {
    "program_id": or_null(to("schemas", "program_id")),
    "outputs": {"type": "object", "description": "Output field → value, all declared fields."},
    **_ORIGIN,
    "usage": to("schemas", "usage"),
    "attempts": {**COUNT, "description": "Runs that reached the LM."},
    "execution_time": SECONDS,
    "warnings": to("schemas", "warnings"),
}
_INFO: Mapping[str, Schema] = {
    **_PROGRAM_ID,
    "created_at": TIME,
    "execution_count": COUNT,
    "last_executed": or_null(TIME),
    "signature": {**ANY, "description": "As sent."},
    "signature_normalized": or_null(OBJECT),
    "program_type": TEXT,
    **_ORIGIN,
    "lm": or_null(TEXT),
    "config": OBJECT,
}
_STATS: Mapping[str, Schema] = {
    "programs_count": COUNT,
    "command_count": COUNT,
    "error_count": COUNT,
    "uptime": SECONDS,
    "memory_usage": record({"rss": COUNT, "vms": COUNT, "percent": NUMBER}),
    "dspy_available": BOOLEAN,
    "gemini_available": BOOLEAN,
    "worker_id": TEXT,
    "version": TEXT,
    "in_flight": COUNT,
    "adoption": record(
        {"programs": to("schemas", "share_by_type"), "jobs": to("schemas", "share_by_type")}, required=["programs"]
    ),
    "cache": OBJECT,
    "lms": {"type": "object", "additionalProperties": TEXT, "description": "LM alias → model."},
    "circuits": {
        "type": "object",
        "additionalProperties": record(
            {"state": {"enum": ["open", "closed"]}, "code": or_null(TEXT), "open_seconds": or_null(SECONDS)}
        ),
        "description": "LM alias → its circuit; open: the LM is taken for down.",
    },
}
# All that one tenant of several is told.
_STATS_OF_TENANT = (
    "programs_count",
    "uptime",
    "dspy_available",
    "gemini_available",
    "worker_id",
    "version",
    "adoption",
)
_PAGE: Mapping[str, Schema] = {
    "limit": {**COUNT, "minimum": 1, "description": "At most 1,000 are listed at once."},
    "offset": COUNT,
}
_PING: Mapping[str, Schema] = {
    "status": {"const": "ok"},
    "timestamp": TIME,
    "dspy_available": BOOLEAN,
    "gemini_available": BOOLEAN,
    "uptime": SECONDS,
    "mode": TEXT,
    "worker_id": TEXT,
    "version": TEXT,
}

_WORKER: Mapping[str, Schema] = {
    "worker_id": TEXT,
    "host": TEXT,
    "version": or_null(TEXT),
    "state": {"enum": ["living", "lost"]},
    "uptime": SECONDS,
    "silent_seconds": SECONDS,
    "in_flight": or_null({"type": "object", "additionalProperties": COUNT, "description": "Lane → jobs in hand."}),
    "paused": list_of(record({"reason": TEXT, "lanes": list_of(TEXT)})),
    "circuits": {
        "type": "object",
        "additionalProperties": record({"code": TEXT, "open_seconds": SECONDS}),
        "description": "LM alias → its circuit, where that is open.",
    },
    "settings": {**or_null(TEXT), "description": "Hash of the settings that should agree."},
    "differs": list_of({"enum": ["version", "settings"]}),
}


def _paid() -> Iterator[Command]:
    create, execute = args_of(CreateArgs), args_of(ExecuteArgs)
    execute["anyOf"] = [{"required": ["program_id"]}, {"required": ["signature"]}]
    gemini_created, gemini_executed = record({**_CREATED, **_GEMINI}), record({**_EXECUTED, **_GEMINI})
    yield Command("create_program", "create", "Define a program from a signature.", create, record(_CREATED))
    yield Command(
        "execute_program", "execute", "Run a program, or a signature sent along, on inputs.", execute, record(_EXECUTED)
    )
    yield Command("create_gemini_program", "create", "create_program under DSPex's other name.", create, gemini_created)
    yield Command(
        "execute_gemini_program", "execute", "execute_program under DSPex's other name.", execute, gemini_executed
    )


def _about_programs() -> Iterator[Command]:
    listed = record({"programs": list_of(to("schemas", "program")), "total_count": COUNT})
    origin = {name: _ORIGIN[name] for name in ("signature_fingerprint", "program_version", "is_dynamic")}
    described = record({**_PROGRAM_ID, "inputs": OBJECT, "outputs": OBJECT, **origin})
    yield Command(
        "list_programs",
        "control",
        "List a page of the programs, the oldest first.",
        record(_PAGE, required=()),
        listed,
    )
    yield Command("get_program_info", "control", "Describe one program.", _ONE_PROGRAM, record(_INFO))
    yield Command(
        "describe", "control", "Return the JSON Schemas of a program's inputs and outputs.", _ONE_PROGRAM, described
    )
    yield Command(
        "delete_program",
        "control",
        "Delete a program.",
        _ONE_PROGRAM,
        record({**_PROGRAM_ID, "status": {"const": "deleted"}}),
    )


def _about_jobs() -> Iterator[Command]:
    status = {"enum": list(RESULT_STATUSES)}
    of_done = {"generation": or_null(COUNT), "stored_ms": or_null(COUNT), "reply": or_null(OBJECT)}
    kept = record({**_MESSAGE_ID, "status": status, **of_done})
    cancelled = record({**_MESSAGE_ID, "status": {"enum": list(CANCEL_STATUSES)}})
    yield Command("cancel", "control", "Stop a job, queued or running.", _ONE_JOB, cancelled)
    yield Command("get_result", "control", "Return the kept reply of a job.", _ONE_JOB, kept)


def _about_workers() -> Iterator[Command]:
    reset = _status("reset", {"programs_cleared": COUNT, "commands_reset": COUNT, "errors_reset": COUNT})
    configured = _status("configured", {"model": TEXT, "provider": or_null(TEXT), "temperature": or_null(NUMBER)})
    yield Command("ping", "control", "Say that a worker lives.", _NOTHING, record(_PING))
    stats = record(_STATS, required=_STATS_OF_TENANT)
    yield Command("get_stats", "control", "Return the figures of the worker that answers.", _NOTHING, stats)
    yield Command(
        "list_workers", "control", "List the workers.", _NOTHING, record({"workers": list_of(record(_WORKER))})
    )
    yield from _about_flags()
    yield Command(
        "cleanup", "control", "Delete all programs.", _NOTHING, _status("cleaned", {"programs_removed": COUNT})
    )
    yield Command("reset_state", "control", "Delete all programs and reset the counts.", _NOTHING, reset)
    yield Command(
        "configure_lm",
        "control",
        "Accepted where `model` names a configured alias; changes nothing.",
        record({"model": TEXT}),
        configured,
    )
    yield Command("shutdown", "control", "Never permitted; the error says how to do it.", _NOTHING, None)


def _about_flags() -> Iterator[Command]:
    name = {"enum": ["dynamic_signatures", "dynamic_signatures_rollout"]}
    value = {"anyOf": [TEXT, PERCENT]}
    change, changed = record({"name": name, "value": value}), record({"name": name, "value": value, "previous": value})
    flags = record({"flags": to("schemas", "flags"), "set": {**list_of(name), "description": "Those that were set."}})
    yield Command("set_flag", "control", "Set a flag for all workers at once.", change, changed)
    yield Command("get_flags", "control", "Return the flags in force.", _NOTHING, flags)


def _sessions() -> Iterator[Command]:
    for name, summary in (
        ("cleanup_session", "Answered for DSPex; there are no sessions."),
        ("get_session_data", "Answered for DSPex; nothing is stored here."),
        ("update_session_data", "Answered for DSPex; nothing is stored here."),
    ):
        yield Command(name, "control", summary, record({"session_id": ANY}, required=()), record(_SESSION))


def _all() -> Sequence[Command]:
    return (*_paid(), *_about_programs(), *_about_jobs(), *_about_workers(), *_sessions())


COMMANDS: tuple[Command, ...] = tuple(_all())
"""All commands, in the order of the document."""
