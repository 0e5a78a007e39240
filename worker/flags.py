"""Flags: what an operator switches for all workers at once, while they run.

A flag that was set lies in the store and comes with each claim, so no worker runs a job under an older one and none has
to be told. One that was never set has the start value that the environment gives it.

See Also:
    docs/WIRE.md, "Flags and rollout": what each value does to definitions and runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from worker.errors import InvalidRequestError
from worker.settings import Settings

Mode = Literal["on", "off", "force_off"]
MODES: tuple[Mode, ...] = get_args(Mode)

DYNAMIC_SIGNATURES = "dynamic_signatures"
ROLLOUT = "dynamic_signatures_rollout"
KNOWN = {
    DYNAMIC_SIGNATURES: "on, off or force_off",
    ROLLOUT: "a percentage from 0 to 100",
}
"""Flag → its values, in words."""


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that hold for one job.

    Attributes:
        dynamic_signatures: ``on``; ``off`` for what is not decided yet; ``force_off`` for every run.
        rollout: Percent of signatures that are used as declared.
    """

    dynamic_signatures: Mode = "on"
    rollout: int = 100

    @classmethod
    def of(cls, settings: Settings, stored: Mapping[str, str]) -> Flags:
        """Return the stored flags, and the start values of those that were never set.

        Args:
            settings: The start values.
            stored: Flag → value, as `read_flag` returned it.
        """
        mode = stored.get(DYNAMIC_SIGNATURES, "on" if settings.dynamic_signatures else "off")
        rollout = stored.get(ROLLOUT, settings.dynamic_signatures_rollout)
        # A value that a newer version set means nothing here: the start value holds.
        start: Mode = "on" if settings.dynamic_signatures else "off"
        is_known = _is_percentage(str(rollout))
        return cls(
            next((known for known in MODES if known == mode), start),
            int(rollout) if is_known else settings.dynamic_signatures_rollout,
        )

    def to_json(self) -> dict[str, str | int]:
        """Return flag → value as the wire spells them."""
        return {DYNAMIC_SIGNATURES: self.dynamic_signatures, ROLLOUT: self.rollout}


def read_flag(name: object, value: object) -> tuple[str, str]:
    """Check a flag that a sender wants to set, and return its name and value as the store keeps them.

    Raises:
        InvalidRequestError: No such flag, or no such value; the message names what there is.
    """
    if not isinstance(name, str) or name not in KNOWN:
        raise InvalidRequestError(f"{_shown(name)} is no flag; there are {' and '.join(KNOWN)}", field="name")
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (_is_percentage(text) if name == ROLLOUT else text in MODES):
        raise InvalidRequestError(f"{name} is {KNOWN[name]}, not {_shown(value)}", field="value")
    return name, str(int(text)) if name == ROLLOUT else text


def _is_percentage(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100


def _shown(value: object) -> str:
    return repr(value)[:64]
