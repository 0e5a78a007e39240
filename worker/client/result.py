"""Read replies: JSON in, results or errors out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.client.errors import ClientError, ReplyError


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of a program gave; ``result["name"]`` is short for ``result.outputs["name"]``.

    Attributes:
        outputs: Output field → value, of the declared types.
        usage: ``lm_calls``, ``prompt_tokens``, ``completion_tokens``, ``cost_usd``.
        warnings: What the worker noticed and went on with.
        fallback_used: Whether a question-and-answer program ran instead of the declared one.
        attempts: Runs that reached the LM.
        raw: The reply's whole ``result``.
    """

    outputs: Mapping[str, Any]
    usage: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[Any, ...] = ()
    fallback_used: bool = False
    attempts: int = 0
    raw: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """Return one output.

        Raises:
            KeyError: The signature has no such output.
        """
        return self.outputs[name]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Result:
        """Read the ``result`` of an execute reply.

        Raises:
            ClientError: It has no outputs.
        """
        if not isinstance(raw.get("outputs"), dict):
            raise ClientError("The reply has no outputs")
        return cls(
            outputs=raw["outputs"],
            usage=raw.get("usage") or {},
            warnings=tuple(raw.get("warnings") or ()),
            fallback_used=bool(raw.get("fallback_used")),
            attempts=int(raw.get("attempts") or 0),
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


def check_reply(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``result`` of a success.

    Raises:
        ReplyError: The reply is an error.
        ClientError: The reply has no result.
    """
    if not reply["success"]:
        raise ReplyError(reply)
    if not isinstance(reply.get("result"), dict):
        raise ClientError("The reply has no result")
    return dict(reply["result"])
