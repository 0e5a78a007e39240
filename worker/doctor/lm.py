"""The LM aliases: configured, with keys, and with ``--call-lm`` one tiny call each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from worker.doctor.check import Check, error, ok, skipped, warning
from worker.errors import OutputInvalidError, WorkerError
from worker.settings import LMProfile, Settings

if TYPE_CHECKING:
    from worker.lm import LMs

MAX_CALL_SECONDS = 60.0
_OFFLINE = "offline"
_PROMPT = "Answer with the word ok."
# Provider, as a model string names it → the variables that its key may stand in.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "xai": ("XAI_API_KEY",),
}


def check_aliases(settings: Settings, environ: Mapping[str, str] | None = None) -> list[Check]:
    """Look at each alias without calling anybody."""
    known = os.environ if environ is None else environ
    return [_judge(alias, profile, known) for alias, profile in settings.profiles.items()]


async def call_aliases(settings: Settings) -> list[Check]:
    """Ask each alias once, all at the same time, and tell how long it took or which error a job would end in."""
    # It brings DSPy along, which takes seconds: not on the event loop, and only where it is asked for.
    lms = await asyncio.to_thread(_make_lms, settings)
    try:
        return list(await asyncio.gather(*(_call(lms, alias) for alias in settings.profiles)))
    finally:
        await lms.aclose()


def not_called(settings: Settings) -> list[Check]:
    """Say that nobody was called."""
    return [skipped(f"lm call {alias}", "A call costs money", "Add --call-lm") for alias in settings.profiles]


def call_seconds(settings: Settings) -> float:
    """Return how long a call may take."""
    return min(settings.lm_timeout_seconds, MAX_CALL_SECONDS)


def _judge(alias: str, profile: LMProfile, environ: Mapping[str, str]) -> Check:
    name = f"lm {alias}"
    setting = "DSPEX_LM_API_KEY" if alias == "default" else f'"api_key" of {alias} in DSPEX_LMS'
    if profile.model == _OFFLINE:
        return warning(
            name,
            "The offline stand-in: its answers are made up",
            "Set DSPEX_LM_MODEL and DSPEX_LM_API_KEY for real ones",
        )
    if profile.api_key is not None:
        return ok(name, f"{profile.model}, with a key")
    if profile.api_base is not None:
        return ok(name, f"{profile.model} at its own address, without a key")
    variables = _KEYS.get(profile.model.partition("/")[0])
    if variables is None:
        return warning(name, f"{profile.model} has no key, if it needs one", f"Set {setting} if calls are refused")
    if any(environ.get(variable) for variable in variables):
        return ok(name, f"{profile.model}, with the key of the environment")
    return error(name, f"{profile.model} needs a key and has none", f"Set {setting}, or {' or '.join(variables)}")


def _make_lms(settings: Settings) -> LMs:
    from worker.lm import LMs

    return LMs(settings.profiles, timeout_seconds=call_seconds(settings))


async def _call(lms: LMs, alias: str) -> Check:
    from worker.meter import METER, Meter

    name = f"lm call {alias}"
    if lms.is_offline(alias):
        return skipped(name, "The offline stand-in asks no model")
    METER.set(Meter(max_calls=1))
    began = time.perf_counter()
    try:
        await lms.get(alias).acall(_PROMPT)
    except OutputInvalidError:
        # An answer that was cut off is an answer.
        pass
    except WorkerError as fault:
        said = "; ".join(problem.problem for problem in fault.problems) or fault.reason
        return error(name, f"{fault.code}: {said}", "Check model, address and key of this alias, and the account")
    return ok(name, f"It answered in {time.perf_counter() - began:.1f} s")
