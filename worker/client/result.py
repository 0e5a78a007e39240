"""Read replies: JSON in, results or errors out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.client.errors import ClientError, ReplyError
from worker.message import HEADER_GENERATION, HEADER_STORED


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of a program gave; ``result["name"]`` is short for ``result.outputs["name"]``.

    Attributes:
        outputs: Output field → value, of the declared types.
        usage: ``lm_calls``, ``prompt_tokens``, ``completion_tokens``, ``cost_usd``.
        warnings: What the worker noticed and went on with.
        fallback_used: Whether a question-and-answer program ran instead of the declared one.
        attempts: Runs that reached the LM.
        message_id: The job's idempotency key.
        generation: Which run of the job this is: 0 is the first; None where the worker does not say.
        stored_ms: When the result was stored, in Unix milliseconds, if it is that of an earlier run, repeated; None if
            the job ran just now.
        raw: The reply's whole ``result``.
    """

    outputs: Mapping[str, Any]
    usage: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[Any, ...] = ()
    fallback_used: bool = False
    attempts: int = 0
    message_id: str | None = None
    generation: int | None = None
    stored_ms: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return one output.

        Raises:
            KeyError: The signature has no such output.
        """
        return self.outputs[name]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it came.

    Attributes:
        document: The body.
        message_id: The job's idempotency key, not the reply's.
        generation: Which run of the job it is of; None where nobody says.
        stored_ms: When it was stored, in Unix milliseconds; None if it is fresh.
    """

    document: Mapping[str, Any]
    message_id: str
    generation: int | None = None
    stored_ms: int | None = None

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, Any], *, message_id: str) -> Reply:
        """Read a reply from its message.

        Raises:
            ClientError: The body is no JSON object with ``success``.
        """
        document = parse_reply(body)
        stored = headers.get(HEADER_STORED, document.get("stored_ms"))
        return cls(document, message_id, _number(headers.get(HEADER_GENERATION)), _number(stored))

    def value(self) -> dict[str, Any]:
        """Return the ``result`` of a success.

        Raises:
            ReplyError: The reply is an error.
            ClientError: The reply has no result.
        """
        if not self.document["success"]:
            raise ReplyError(
                self.document, message_id=self.message_id, generation=self.generation, stored_ms=self.stored_ms
            )
        if not isinstance(self.document.get("result"), dict):
            raise ClientError("The reply has no result")
        return dict(self.document["result"])

    def result(self) -> Result:
        """Return what a run gave.

        Raises:
            ReplyError: The reply is an error.
            ClientError: The reply has no outputs.
        """
        raw = self.value()
        if not isinstance(raw.get("outputs"), dict):
            raise ClientError("The reply has no outputs")
        return Result(
            outputs=raw["outputs"],
            usage=raw.get("usage") or {},
            warnings=tuple(raw.get("warnings") or ()),
            fallback_used=bool(raw.get("fallback_used")),
            attempts=int(raw.get("attempts") or 0),
            message_id=self.message_id,
            generation=self.generation,
            stored_ms=self.stored_ms,
            raw=raw,
        )


def parse_reply(body: bytes) -> dict[str, Any]:
    """Parse a reply's body.

    Raises:
        ClientError: It is no JSON object with ``success``.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ClientError(f"The reply is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("success"), bool):
        raise ClientError("The reply is no object with `success`")
    return document


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
