"""What a failure of the LM layer means, by its wire code."""

from __future__ import annotations

import math
from typing import Any

from dspy.utils import exceptions as dspy_errors

from worker.aliases import not_configured
from worker.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMInvalidRequestError,
    LMRateLimitedError,
    LMTimeoutError,
    LMUnavailableError,
    WorkerError,
)

_MAX_REASON = 500
_MIN_SECRET = 8
_NO_KEY = dspy_errors.LMNotConfiguredError
_NO_ACCESS = (dspy_errors.LMAuthError, dspy_errors.LMBillingError, _NO_KEY)


def translate(error: Exception, *, alias: str, reason: str) -> WorkerError:
    """Return the wire's name for an error of the LM layer.

    A refused or missing key, an unpaid account and a model that the provider does not know harm every job of this
    worker and none elsewhere, so they count as trouble that may pass. What DSPy itself cannot name is taken for an outage: it is tried
    again, and ends as such.
    """
    if isinstance(error, TimeoutError | dspy_errors.LMTimeoutError):
        return LMTimeoutError(f"LM '{alias}' did not answer in time")
    if isinstance(error, dspy_errors.LMRateLimitError):
        return LMRateLimitedError(f"LM '{alias}' is rate limited: {reason}", retry_after_ms=_milliseconds(error))
    if isinstance(error, _NO_ACCESS):
        trouble = "has no key on this worker" if isinstance(error, _NO_KEY) else "refuses the key or the account"
        return LMAuthError(f"LM '{alias}' {trouble}")
    if isinstance(error, dspy_errors.ContextWindowExceededError):
        return ContextWindowExceededError(f"the prompt is too long for LM '{alias}'")
    if isinstance(error, dspy_errors.LMConfigurationError):
        return not_configured(f"LM '{alias}': {reason}")
    is_refused = isinstance(error, dspy_errors.LMInvalidRequestError | dspy_errors.LMUnsupportedFeatureError)
    if is_refused and not is_unknown_model(error):
        return LMInvalidRequestError(f"LM '{alias}' refuses the request: {reason}")
    if isinstance(error, dspy_errors.LMError):
        trouble = "has no such model at its provider" if is_unknown_model(error) else "failed"
        return LMUnavailableError(f"LM '{alias}' {trouble}: {reason}", retry_after_ms=_milliseconds(error))
    raise error


def is_unknown_model(error: Exception) -> bool:
    """Tell whether the provider does not know the model, or the URL: no job names either, so no job is at fault."""
    return isinstance(error, dspy_errors.LMUnsupportedModelError) or getattr(error, "status", None) == 404


def may_be_billed(error: Exception) -> bool:
    """Tell whether a failed call may be paid for: it was sent, and no status says that it was refused."""
    status = getattr(error, "status", None)
    if status is not None and status >= 400:
        return False
    is_never_sent = isinstance(error, dspy_errors.LMConfigurationError | dspy_errors.LMUnsupportedFeatureError)
    return not is_never_sent and "connect" not in str(error).lower()


def mask(text: str, secret: str | None) -> str:
    """Mask the key, then cut: the other way round, a part of it could be left at the end.

    A key of less than 8 characters stands for none, as local servers take it, and may be a part of any word.
    """
    if secret is not None and len(secret) >= _MIN_SECRET:
        text = text.replace(secret, "***")
    return text[:_MAX_REASON]


def _milliseconds(error: Any) -> int | None:
    seconds = getattr(error, "retry_after", None)
    if seconds is None or not math.isfinite(float(seconds)):
        return None
    return max(0, round(float(seconds) * 1_000))
