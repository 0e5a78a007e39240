"""Requests, replies and dead letters: bodies, headers and AMQP properties."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from worker.asyncapi.commands import COMMANDS, Command
from worker.asyncapi.schemas import (
    BOOLEAN,
    COUNT,
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
from worker.errors import WorkerError
from worker.message import (
    HEADER_ATTEMPTS,
    HEADER_DEADLINE,
    HEADER_DELIVERIES,
    HEADER_FIRST_DELIVERED,
    HEADER_GENERATION,
    HEADER_HISTORY,
    HEADER_ORIGINAL_ROUTING_KEY,
    HEADER_RERUN,
    HEADER_STORED,
    HEADER_TENANT,
    HEADER_TIMEOUT,
    HEADER_WAITS,
    MAX_DEATHS,
    MAX_RERUN,
)

Message = dict[str, Any]

BINDING_VERSION = "0.3.0"
"""Of AsyncAPI's AMQP bindings."""

ERROR = "error.reply"
"""Name of the message that every command may answer with."""

DEAD_LETTER = "dead_letter"
"""Name of the message in the dead-letter queues."""

_MILLISECONDS: Schema = {"type": "integer", "description": "Unix milliseconds."}
_TRACE: dict[str, Schema] = {
    "traceparent": text("W3C trace context; copied to the reply."),
    "tracestate": text("W3C trace context."),
}
_TRAIL: dict[str, Schema] = {
    HEADER_ATTEMPTS: {**COUNT, "description": "Runs that reached the LM."},
    HEADER_WAITS: {**COUNT, "description": "Hops on the delay ladder that were no attempt."},
    HEADER_FIRST_DELIVERED: _MILLISECONDS,
    HEADER_GENERATION: {**COUNT, "description": "0 at first; one more with every replay and every rerun."},
    HEADER_ORIGINAL_ROUTING_KEY: text("The routing key that the sender published with."),
    HEADER_TENANT: text("Whose job it is, where tenancy is on."),
    HEADER_DELIVERIES: {**COUNT, "description": "Deliveries before the hop of a job that may have killed its worker."},
    HEADER_HISTORY: {
        "type": "array",
        "maxItems": MAX_DEATHS,
        "description": "How each generation before this one ended; the first one and the newest others.",
        "items": {
            "type": "object",
            "properties": {
                "code": text("The error's code."),
                "time": _MILLISECONDS,
                "generation": COUNT,
                "worker": text("The worker that gave up."),
            },
        },
    },
}
_IDS: dict[str, Schema] = {
    "correlation_id": text("Copied to the reply; no control characters."),
    "message_id": text("The idempotency key: the same id with the same content runs once."),
}
_CONTENT: dict[str, Schema] = {"content_type": {"const": "application/json"}, "content_encoding": {"const": "utf-8"}}


def error_leaves(kind: type[WorkerError] = WorkerError) -> Iterator[type[WorkerError]]:
    """Yield each class of the error tree that ends a job, in the order of the tree."""
    children = [child for child in kind.__subclasses__() if child.__module__ == WorkerError.__module__]
    if not children:
        yield kind
    for child in children:
        yield from error_leaves(child)


def message_schemas() -> dict[str, Schema]:
    """Return the schemas of headers, properties and errors, and of each command's arguments and result, by name."""
    parts = {f"{command.name}.args": command.args for command in COMMANDS}
    parts |= {f"{command.name}.result": command.result for command in COMMANDS if command.result is not None}
    return parts | {
        "error_detail": _error_detail(),
        "request_headers": record({**_request_headers(), **_TRACE}, required=()),
        "request_properties": record(_request_properties(), required=()),
        "reply_headers": record(_reply_headers(), required=()),
        "reply_properties": record(_reply_properties(), required=("message_id", "type", *_CONTENT)),
        "dead_letter_headers": record(_dead_letter_headers(), required=()),
    }


def traits() -> dict[str, Message]:
    """Return what the messages of one kind have in common."""
    return {
        "request": _trait("request", {}),
        "reply": _trait("reply", {"messageType": "dspex.reply"}),
        "dead_letter": _trait("request", {}) | {"headers": to("schemas", "dead_letter_headers")},
    }


def messages() -> dict[str, Message]:
    """Return every message but those of single programs, by name."""
    written = {f"{command.name}.request": _request(command) for command in COMMANDS}
    written |= {f"{command.name}.reply": _reply(command) for command in COMMANDS if command.result is not None}
    return written | {
        ERROR: {
            "name": ERROR,
            "title": "Error",
            "summary": "What any command may answer.",
            "payload": failure(),
            "traits": [to("messageTraits", "reply")],
        },
        DEAD_LETTER: {
            "name": DEAD_LETTER,
            "title": "Dead letter",
            "summary": "A job that failed for good: its body and ids as they came, and why it failed in the headers.",
            "payload": {"description": "The body as it was published; it need not be JSON."},
            "traits": [to("messageTraits", "dead_letter")],
        },
    }


def envelope(args: Schema, *, command: str, is_default: bool, is_needed: bool) -> Schema:
    """Return the schema of a request's body.

    Args:
        args: Schema of the arguments as an object.
        command: The command's name.
        is_default: Whether ``command`` may be left out.
        is_needed: Whether ``args`` must be there.
    """
    members: dict[str, Schema] = {
        "command": {"const": command},
        "id": {"type": ["string", "number", "null"], "description": "Copied to the reply."},
        "args": or_pairs(args) if is_needed else or_null(or_pairs(args)),
        "timestamp": {"description": "Ignored."},
    }
    required = [*([] if is_default else ["command"]), *(["args"] if is_needed else [])]
    return {**record(members, required=required), "additionalProperties": False}


def success(result: Schema) -> Schema:
    """Return the schema of the body of a success."""
    return record(
        {"id": _reply_id(), "success": {"const": True}, "timestamp": TIME, "result": result, "stored_ms": _stored_ms()},
        required=("id", "success", "timestamp", "result"),
    )


def failure() -> Schema:
    """Return the schema of the body of an error."""
    return record(
        {
            "id": _reply_id(),
            "success": {"const": False},
            "timestamp": TIME,
            "error": text("The sentence of the error; code written for DSPex matches on some of them."),
            "error_detail": to("schemas", "error_detail"),
            "stored_ms": _stored_ms(),
        },
        required=("id", "success", "timestamp", "error", "error_detail"),
    )


def _request(command: Command) -> Message:
    needs_args = bool(command.args.get("required") or command.args.get("anyOf"))
    return {
        "name": f"{command.name}.request",
        "title": command.name,
        "summary": command.summary,
        "payload": envelope(
            to("schemas", f"{command.name}.args"),
            command=command.name,
            is_default=command.is_default,
            is_needed=needs_args,
        ),
        "traits": [to("messageTraits", "request")],
    }


def _reply(command: Command) -> Message:
    return {
        "name": f"{command.name}.reply",
        "title": f"Reply to {command.name}",
        "payload": success(to("schemas", f"{command.name}.result")),
        "traits": [to("messageTraits", "reply")],
    }


def _trait(kind: str, binding: dict[str, str]) -> Message:
    return {
        "contentType": "application/json",
        "headers": to("schemas", f"{kind}_headers"),
        "correlationId": to("correlationIds", "correlation_id"),
        "bindings": {"amqp": {"contentEncoding": "utf-8", **binding, "bindingVersion": BINDING_VERSION}},
        "x-amqp-properties": to("schemas", f"{kind}_properties"),
    }


def _reply_id() -> Schema:
    return {"type": ["string", "number", "null"], "description": "The request's `id`, or null."}


def _request_headers() -> dict[str, Schema]:
    about_rerun = "The generation of the error reply that another run is wanted after."
    return {
        HEADER_DEADLINE: {"type": "integer", "description": "Unix milliseconds; past it the job is never started."},
        HEADER_TIMEOUT: {
            "type": "integer",
            "minimum": 1,
            "description": "Milliseconds after which the sender gives up, beside the deadline.",
        },
        HEADER_RERUN: {**COUNT, "maximum": MAX_RERUN, "description": about_rerun},
    }


def _reply_headers() -> dict[str, Schema]:
    told = {name: _TRAIL[name] for name in (HEADER_ATTEMPTS, HEADER_GENERATION)}
    return {**told, HEADER_STORED: _stored_ms(), "traceparent": TEXT}


def _stored_ms() -> Schema:
    return {
        **COUNT,
        "description": "Unix milliseconds: when a reply was stored that is sent again; absent in a fresh one.",
    }


def _request_properties() -> dict[str, Schema]:
    return {
        "reply_to": text("The queue for the reply: direct reply-to, an exclusive queue or a durable one."),
        **_IDS,
        **_CONTENT,
        "delivery_mode": {"const": 2, "description": "Persistent: a job is safe once its publish is confirmed."},
        "expiration": text("The broker's own, in milliseconds: an expired job is dead-lettered without a reply."),
        "timestamp": {"type": "integer", "description": "When it was sent, in Unix seconds, by the sender's clock."},
        "user_id": text("The sender's broker user; the broker checks it."),
    }


def _reply_properties() -> dict[str, Schema]:
    return {
        "correlation_id": text("As in the request."),
        "message_id": text("The same each time this reply is repeated."),
        "type": {"const": "dspex.reply"},
        **_CONTENT,
    }


def _dead_letter_headers() -> dict[str, Schema]:
    return {
        "x-dspex-code": text("The error's code."),
        "x-dspex-message": text("The error's sentence, cut to what fits a header."),
        "x-dspex-first-failed": _MILLISECONDS,
        "x-dspex-fingerprint": text("The signature's fingerprint, where it is known."),
        "x-dspex-worker": text("The worker that gave up."),
        "x-dspex-lm": text("Alias of the LM that the job used, where it came to that."),
        **_TRAIL,
        **_TRACE,
    }


def _error_detail() -> Schema:
    leaves = list(error_leaves())
    about = [
        {
            "code": kind.code,
            "recoverable": kind.recoverable,
            "error_starts_with": kind.prefix,
            "description": inspect.getdoc(kind),
        }
        for kind in leaves
    ]
    return record(
        {
            "code": {"type": "string", "enum": [kind.code for kind in leaves], "x-codes": about},
            "message": TEXT,
            "field": {**or_null(TEXT), "description": "The signature field concerned."},
            "recoverable": {**BOOLEAN, "description": "Whether the same job may succeed later without a change."},
            "retry_after": {**or_null(COUNT), "description": "Milliseconds."},
            "attempts": COUNT,
            "problems": list_of(
                record({"path": text("JSON pointer into the job's `args`."), "problem": text("A short phrase.")})
            ),
        }
    )
