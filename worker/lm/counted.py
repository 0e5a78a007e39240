"""One LM call: counted, bounded in time, told to the circuit, with our errors."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import lm15
from dspy.clients.capabilities import resolve
from dspy.clients.costs import estimate_cost

from worker.circuits import Circuit
from worker.errors import LMAuthError, LMInvalidRequestError, OutputInvalidError, TransientLMError, WorkerError
from worker.lm.failures import is_unknown_model, mask, may_be_billed, translate
from worker.meter import METER, Meter
from worker.offline import text_response
from worker.settings import LMProfile
from worker.signatures import Dialect
from worker.telemetry import LM_CALLS, LM_SECONDS, LM_TOKENS

_PROBE = "ping"
_PROBE_TOKENS = 16
_PROBE_SECONDS = 30.0


class CountedLM(dspy.LM):
    """A DSPy LM under an alias: one attempt a call, counted, bounded in time, with our errors.

    DSPy hands usage and cost to ``update_history`` only, so that is where they are read; no history is kept.
    """

    def __init__(
        self, profile: LMProfile, *, circuit: Circuit, timeout_seconds: float, options: Mapping[str, Any]
    ) -> None:
        super().__init__(profile.model, cache=False, num_retries=0, **options)
        self.alias = circuit.alias
        self._circuit = circuit
        self._structured_outputs = profile.structured_outputs
        self._timeout_seconds = timeout_seconds
        self._secret = profile.api_key.get_secret_value() if profile.api_key else None

    @functools.cached_property
    def dialect(self) -> Dialect | None:
        """The response schema that the model takes; None for the chat format."""
        if self._structured_outputs == "auto":
            return "strict" if self.supports_response_schema else None
        return None if self._structured_outputs == "false" else self._structured_outputs

    @functools.cached_property
    def is_priced(self) -> bool:
        """Whether DSPy knows what a call costs: without a price no cost budget can be kept."""
        try:
            route = resolve(self)  # type: ignore[no-untyped-call]
        except lm15.LM15Error:
            return False
        usage = lm15.Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        probe = text_response("", model=route.model, usage=usage)
        cost, _ = estimate_cost(  # type: ignore[no-untyped-call]
            probe, provider=route.provider, requested_model=route.model
        )
        return cost is not None

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Call the LM once, unless it is taken for down.

        Raises:
            WorkerError: Whatever went wrong, by its wire code.
        """
        self._circuit.check()
        meter = METER.get()
        meter.begin()
        began, epoch = time.perf_counter(), self._circuit.epoch
        try:
            async with asyncio.timeout(self._timeout_seconds):
                outputs = await super().acall(prompt, messages=messages, **kwargs)
        except asyncio.CancelledError:
            meter.abandoned()
            raise
        except Exception as error:
            raise self._failed(error, meter, epoch=epoch) from error
        if not meter.is_cached:
            self._circuit.succeeded()
            LM_CALLS.labels(self.alias, "ok").inc()
            LM_SECONDS.labels(self.alias).observe(time.perf_counter() - began)
        self._check_answer(meter)
        return outputs

    async def probe(self) -> None:
        """Ask for a word, to see whether the LM answers again; no job pays for it.

        Raises:
            WorkerError: It does not, or not well.
        """
        METER.set(Meter(max_calls=1))
        try:
            async with asyncio.timeout(min(self._timeout_seconds, _PROBE_SECONDS)):
                await super().acall(_PROBE, max_tokens=_PROBE_TOKENS, cache=False)
        except Exception as error:
            wrapped = self._translate(error)
            LM_CALLS.labels(self.alias, f"probe_{wrapped.code}").inc()
            raise wrapped from error
        LM_CALLS.labels(self.alias, "probe_ok").inc()

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Read usage and cost of a finished call; keep nothing."""
        usage = entry["usage"] or {}
        response = entry["response"]
        METER.get().answered(usage, entry["cost"], is_cut=_is_cut(response), is_refused=_is_refused(response))
        LM_TOKENS.labels(self.alias, "prompt").inc(usage.get("prompt_tokens") or 0)
        LM_TOKENS.labels(self.alias, "completion").inc(usage.get("completion_tokens") or 0)

    def _check_answer(self, meter: Meter) -> None:
        if meter.is_refused:
            raise LMInvalidRequestError(f"LM '{self.alias}' refuses to answer this request")
        if meter.is_cut:
            raise OutputInvalidError("the answer was cut off at the limit of answer tokens (max_tokens)")

    def _failed(self, error: Exception, meter: Meter, *, epoch: int) -> Exception:
        """Count a failed call, and return the error as the wire names it."""
        wrapped = self._translate(error)
        if may_be_billed(error):
            meter.abandoned()
        is_proof = isinstance(wrapped, LMAuthError) or is_unknown_model(error)
        self._circuit.failed(wrapped, epoch=epoch, is_proof=is_proof)
        LM_CALLS.labels(self.alias, wrapped.code).inc()
        return wrapped

    def _translate(self, error: Exception) -> WorkerError:
        if isinstance(error, WorkerError):
            return error
        reason = mask(str(getattr(error, "message", "") or error), self._secret)
        wrapped = translate(error, alias=self.alias, reason=reason)
        if isinstance(wrapped, TransientLMError):
            wrapped.status = getattr(error, "status", None)
        return wrapped


def _is_refused(response: Any) -> bool:
    """Tell whether the provider held an answer back: asked again, it would do so again."""
    if not isinstance(response, lm15.Response):
        return False
    has_refusal = any(part.type == "refusal" for part in response.message.parts)
    return has_refusal or response.finish_reason == "content_filter"


def _is_cut(response: Any) -> bool:
    """Tell whether an answer ended at the limit of tokens: half an answer may look like a whole one."""
    choices = getattr(response, "choices", None) or [response]
    return any(getattr(choice, "finish_reason", None) == "length" for choice in choices)
