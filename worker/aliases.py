"""Which LM a job asks for, and whether it may be asked: all that can be told before any LM is called.

Nothing here needs DSPy, so that commands of the command line can ask it quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from worker.errors import InvalidRequestError, LMNotConfiguredError, Problem
from worker.message import ExecuteArgs
from worker.settings import LMProfile


class Priced(Protocol):
    """An LM of which it is known whether its calls have a price."""

    @property
    def is_priced(self) -> bool:
        """Whether it is known what a call costs."""


def wanted_alias(args: ExecuteArgs, *, own: str | None) -> tuple[str, str]:
    """Return the alias that a job runs on, and the JSON pointer to where the job names it.

    Args:
        args: Of the job; its options win over the program, which wins over the alias ``default``.
        own: The alias of the program, or None.

    Returns:
        The alias, and the pointer, which is empty where the job itself names none.
    """
    if args.options.lm:
        return args.options.lm, "/options/lm"
    return own or "default", "/lm" if args.lm and not args.program_id else ""


def find_profile(profiles: Mapping[str, LMProfile], alias: str, *, pointer: str = "") -> LMProfile:
    """Return what is configured of an alias.

    Args:
        profiles: Alias → what is configured.
        alias: As the job or its program names it.
        pointer: JSON pointer to where the job named it, for the error.

    Raises:
        LMNotConfiguredError: No such alias.
    """
    profile = profiles.get(alias)
    if profile is None:
        known = ", ".join(sorted(profiles))
        raise not_configured(f"there is no alias '{alias[:64]}'; available aliases: {known}", pointer=pointer)
    return profile


def check_price(lm: Priced, *, alias: str, max_cost_usd: float | None) -> None:
    """Refuse a bound in money on an LM whose calls have no known price.

    Raises:
        InvalidRequestError: The bound cannot be kept.
    """
    if max_cost_usd is not None and not lm.is_priced:
        raise InvalidRequestError(
            f"max_cost_usd cannot be kept: the price of LM '{alias}' is not known", field="max_cost_usd"
        )


def not_configured(problem: str, *, pointer: str = "") -> LMNotConfiguredError:
    """Return the error for an LM that cannot be used.

    Args:
        problem: Why, e.g. that there is no such alias.
        pointer: JSON pointer to where the job named the alias; empty where it did not.
    """
    return LMNotConfiguredError(problem, problems=[Problem(pointer, problem)])
