"""The offline stand-in: an alias that asks no model and makes up valid answers.

The answer is made from the normalised signature that `execution` provides, never by reading the prompt: values are
valid for their types and constraints and the same for the same inputs.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable

from dspy import lm15

OFFLINE_MODEL = "offline"
OFFLINE_WARNING = "Made up by the offline stand-in (DSPEX_LM_MODEL=offline): no model was asked"

# Makes the answer that the offline LM gives; it closes over the normalised signature and the inputs.
OFFLINE_ANSWER: contextvars.ContextVar[Callable[[], str]] = contextvars.ContextVar("dspex_offline_answer")


class OfflineEngine:
    """Answers any signature without a model, behind DSPy's own engine interface."""

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the stand-in's answer to the job of this context."""
        usage = lm15.Usage(input_tokens=0, output_tokens=0, total_tokens=0)
        return text_response(OFFLINE_ANSWER.get()(), model=OFFLINE_MODEL, usage=usage)


class AsyncOfflineEngine(OfflineEngine):
    """`OfflineEngine` for DSPy's async calls."""

    async def complete(self, request: lm15.Request) -> lm15.Response:  # type: ignore[override]
        """Return the stand-in's answer to the job of this context."""
        return super().complete(request)

    async def aclose(self) -> None:
        """Hold nothing that would need closing."""


def text_response(text: str, *, model: str, usage: lm15.Usage) -> lm15.Response:
    """Return a finished answer as an engine gives it."""
    message = lm15.Message.assistant([lm15.TextPart(text)])
    return lm15.Response(id=None, model=model, message=message, finish_reason="stop", usage=usage)
