"""The operator's LM aliases as DSPy LMs, the offline stand-in, and the count of every call.

A message names an alias and never a model, a URL or a key. DSPy runs each call once (``num_retries=0``): its own
retries would sleep in this process and multiply with ours. What a call costs goes to the `Meter` of the job, which
`execution` puts into a context variable; the meter also stops a call that the budget does not cover.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

# Without it DSPy's first litellm call downloads a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")

import dspy
from dspy import lm15
from dspy.clients import execution
from dspy.clients.cache import Cache
from dspy.clients.capabilities import resolve
from dspy.clients.costs import estimate_cost
from dspy.utils import exceptions as dspy_errors

from worker.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    OutputInvalidError,
    Problem,
    WorkerError,
)
from worker.meter import METER, Meter
from worker.settings import LMProfile
from worker.signatures import Dialect
from worker.telemetry import LM_CALLS, LM_SECONDS, LM_TOKENS

OFFLINE_MODEL = "offline"
OFFLINE_WARNING = "Made up by the offline stand-in (DSPEX_LM_MODEL=offline): no model was asked"

_MAX_REASON = 500
_CACHE_ENTRIES = 10_000


# Makes the answer that the offline LM gives; it closes over the normalised signature and the inputs.
OFFLINE_ANSWER: contextvars.ContextVar[Callable[[], str]] = contextvars.ContextVar("dspex_offline_answer")


class CountedLM(dspy.LM):
    """A DSPy LM under an alias: one attempt a call, counted, bounded in time, with our errors.

    DSPy hands usage and cost to ``update_history`` only, so that is where they are read; no history is kept.
    """

    def __init__(self, alias: str, profile: LMProfile, *, timeout_seconds: float, **options: Any) -> None:
        super().__init__(profile.model, cache=False, num_retries=0, **options)
        self.alias = alias
        self._structured_outputs = profile.structured_outputs
        self._timeout_seconds = timeout_seconds
        self._secret = _secret(profile)

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
        probe = _response("", model=route.model, usage=usage)
        cost, _ = estimate_cost(  # type: ignore[no-untyped-call]
            probe, provider=route.provider, requested_model=route.model
        )
        return cost is not None

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Call the LM once.

        Raises:
            WorkerError: Whatever went wrong, by its wire code.
        """
        meter = METER.get()
        meter.begin()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                outputs = await super().acall(prompt, messages=messages, **kwargs)
        except asyncio.CancelledError:
            meter.abandoned()
            raise
        except Exception as error:
            raise self._failed(error, meter) from error
        if meter.is_cut:
            raise OutputInvalidError("the answer was cut off at the limit of answer tokens (max_tokens)")
        if not meter.is_cached:
            LM_CALLS.labels(self.alias, "ok").inc()
            LM_SECONDS.labels(self.alias).observe(time.perf_counter() - began)
        return outputs

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Read usage and cost of a finished call; keep nothing."""
        usage = entry["usage"] or {}
        METER.get().answered(usage, entry["cost"], is_cut=_is_cut(entry["response"]))
        LM_TOKENS.labels(self.alias, "prompt").inc(usage.get("prompt_tokens") or 0)
        LM_TOKENS.labels(self.alias, "completion").inc(usage.get("completion_tokens") or 0)

    def _failed(self, error: Exception, meter: Meter) -> Exception:
        """Count a failed call, and return the error as the wire names it."""
        wrapped = self._translate(error)
        if _may_be_billed(error):
            meter.abandoned()
        LM_CALLS.labels(self.alias, wrapped.code).inc()
        return wrapped

    def _translate(self, error: Exception) -> WorkerError:
        if isinstance(error, WorkerError):
            return error
        reason = _mask(str(getattr(error, "message", "") or error), self._secret)
        return translate(error, alias=self.alias, reason=reason)


def translate(error: Exception, *, alias: str, reason: str) -> WorkerError:
    """Return the wire's name for an error of the LM layer.

    A refused key or an unpaid account harms every job of this worker and none elsewhere, so both count as trouble
    that may pass. What DSPy itself cannot name is taken for an outage: it is tried again, and ends as such.
    """
    if isinstance(error, TimeoutError | dspy_errors.LMTimeoutError):
        return LMTimeoutError(f"LM '{alias}' did not answer in time")
    if isinstance(error, dspy_errors.LMRateLimitError):
        return LMRateLimitedError(f"LM '{alias}' is rate limited: {reason}", retry_after_ms=_milliseconds(error))
    if isinstance(error, dspy_errors.LMAuthError | dspy_errors.LMBillingError):
        return LMAuthError(f"LM '{alias}' refuses the key or the account")
    if isinstance(error, dspy_errors.ContextWindowExceededError):
        return ContextWindowExceededError(f"the prompt is too long for LM '{alias}'")
    if isinstance(error, dspy_errors.LMConfigurationError):
        return not_configured(f"LM '{alias}': {reason}")
    if isinstance(error, dspy_errors.LMInvalidRequestError | dspy_errors.LMUnsupportedFeatureError):
        return LMInvalidRequestError(f"LM '{alias}' refuses the request: {reason}")
    if isinstance(error, dspy_errors.LMError):
        return LMUnavailableError(f"LM '{alias}' failed: {reason}", retry_after_ms=_milliseconds(error))
    raise error


def not_configured(problem: str, *, pointer: str = "") -> LMNotConfiguredError:
    """Return the fixed error string of the contract, with what is really missing as its problem.

    Args:
        problem: What is missing.
        pointer: JSON pointer to where the job named the alias; empty where it did not.
    """
    error = LMNotConfiguredError()
    error.problems = (Problem(pointer, problem),)
    return error


class LMs:
    """The aliases of a worker.

    LMs are made at their first use and kept: DSPy pools connections in them.
    """

    def __init__(
        self, profiles: Mapping[str, LMProfile], *, timeout_seconds: float, max_connections: int = 100
    ) -> None:
        # DSPy gives its connection pools no size, and lm15's default of 100 would hold back a higher concurrency.
        execution.RouterConfig = functools.partial(  # type: ignore[attr-defined, assignment]
            lm15.RouterConfig, max_connections=max(100, max_connections)
        )
        self._profiles = dict(profiles)
        self._timeout_seconds = timeout_seconds
        self._made: dict[str, CountedLM] = {}
        # The default cache writes pickles to disk; this one counts hits and lives in memory only.
        dspy.cache = _CountingCache(
            enable_disk_cache=False,
            enable_memory_cache=True,
            disk_cache_dir="",
            memory_max_entries=_CACHE_ENTRIES,
        )

    @property
    def models(self) -> dict[str, str]:
        """Alias → model string, for logs and statistics."""
        return {alias: profile.model for alias, profile in self._profiles.items()}

    def get(self, alias: str, *, pointer: str = "") -> CountedLM:
        """Return the LM of an alias.

        Args:
            alias: As configured.
            pointer: JSON pointer to where the job named it, for the error.

        Raises:
            LMNotConfiguredError: No such alias, or its profile cannot be used.
        """
        lm = self._made.get(alias)
        if lm is None:
            profile = self._profiles.get(alias)
            if profile is None:
                known = ", ".join(sorted(self._profiles))
                raise not_configured(f"no alias '{alias[:64]}'; this worker knows {known}", pointer=pointer)
            lm = self._made[alias] = self._make(alias, profile)
        return lm

    def is_offline(self, alias: str) -> bool:
        """Tell whether an alias is the stand-in that asks no model."""
        profile = self._profiles.get(alias)
        return profile is not None and profile.model == OFFLINE_MODEL

    async def aclose(self) -> None:
        """Close the connections of all LMs."""
        for lm in self._made.values():
            await lm.aclose()  # type: ignore[no-untyped-call]

    def _make(self, alias: str, profile: LMProfile) -> CountedLM:
        secret = _secret(profile)
        options: dict[str, Any] = {"temperature": profile.temperature, "max_tokens": profile.max_tokens}
        if profile.model == OFFLINE_MODEL:
            options |= {"engine": OfflineEngine(), "async_engine": AsyncOfflineEngine()}
        else:
            client = {"api_key": secret, "api_base": profile.api_base, "timeout": self._timeout_seconds}
            options |= {key: value for key, value in client.items() if value is not None}
        try:
            return CountedLM(alias, profile, timeout_seconds=self._timeout_seconds, **options)
        except (ValueError, TypeError, dspy_errors.LMError) as error:
            raise not_configured(f"LM '{alias}': {_mask(str(error), secret)}") from error


def _response(text: str, *, model: str, usage: lm15.Usage) -> lm15.Response:
    message = lm15.Message.assistant([lm15.TextPart(text)])
    return lm15.Response(id=None, model=model, message=message, finish_reason="stop", usage=usage)


def _secret(profile: LMProfile) -> str | None:
    return profile.api_key.get_secret_value() if profile.api_key else None


class OfflineEngine:
    """Answers any signature without a model, behind DSPy's own engine interface.

    The answer is made from the normalised signature that `execution` provides, never by reading the prompt: values
    are valid for their types and constraints and the same for the same inputs.
    """

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Return the stand-in's answer to the job of this context."""
        usage = lm15.Usage(input_tokens=0, output_tokens=0, total_tokens=0)
        return _response(OFFLINE_ANSWER.get()(), model=OFFLINE_MODEL, usage=usage)


class AsyncOfflineEngine(OfflineEngine):
    """`OfflineEngine` for DSPy's async calls."""

    async def complete(self, request: lm15.Request) -> lm15.Response:  # type: ignore[override]
        """Return the stand-in's answer to the job of this context."""
        return super().complete(request)

    async def aclose(self) -> None:
        """Hold nothing that would need closing."""


class _CountingCache(Cache):
    """DSPy's response cache, in memory, that tells the job's meter about a hit.

    DSPy looks it up in a thread with a copy of the job's context, so the meter is the same object.
    """

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Look a response up; a hit is no LM call."""
        found = super().get(*args, **kwargs)
        if found is not None:
            METER.get().cache_hits += 1
        return found


def _mask(text: str, secret: str | None) -> str:
    """Mask the key, then cut: the other way round, a part of it could be left at the end."""
    return (text.replace(secret, "***") if secret else text)[:_MAX_REASON]


def _may_be_billed(error: Exception) -> bool:
    """Tell whether a failed call may be paid for: it was sent, and no status says that it was refused."""
    status = getattr(error, "status", None)
    if status is not None and status >= 400:
        return False
    is_never_sent = isinstance(error, dspy_errors.LMConfigurationError | dspy_errors.LMUnsupportedFeatureError)
    return not is_never_sent and "connect" not in str(error).lower()


def _is_cut(response: Any) -> bool:
    """Tell whether an answer ended at the limit of tokens: half an answer may look like a whole one."""
    choices = getattr(response, "choices", None) or [response]
    return any(getattr(choice, "finish_reason", None) == "length" for choice in choices)


def _milliseconds(error: Any) -> int | None:
    seconds = getattr(error, "retry_after", None)
    return None if seconds is None else max(0, round(float(seconds) * 1_000))
