"""Read the settings from the environment; what is wrong with them becomes sentences."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from worker.settings.names import PREFIX, explain_unknown, take_own
from worker.settings.settings import Settings


class SettingsError(ValueError):
    """The environment cannot be used; the message says which setting and what to do."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: Variable → text; the process's own environment by default.

    Raises:
        SettingsError: A value is wrong, a name is unknown, or times do not nest. The message has one line a fault.
    """
    given = take_own(os.environ if environ is None else environ)
    known = {name.upper() for name in Settings.model_fields}
    unknown = [explain_unknown(name, known=known) for name in given if name not in known]
    if unknown:
        raise SettingsError("\n".join(unknown))
    try:
        return Settings(**{name.lower(): text for name, text in given.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(part) for part in _faults(error))) from None


def _faults(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_input=False))


def _sentence(fault: Mapping[str, Any]) -> str:
    place, text = fault["loc"], str(fault["msg"]).removeprefix("Value error, ")
    if not place:
        return text
    inside = "".join(f" [{part}]" for part in place[1:])
    return f"{PREFIX}{str(place[0]).upper()}{inside}: {text[0].lower()}{text[1:]}"
