"""How much work the check of values may be: it runs between the messages of everybody else.

A unit is about a quarter of a microsecond; a plain item of a list takes one or two. Work is paid for before it is done, from
sizes that are known, so the same value is refused on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.signatures.nodes import Type

MAX_WORK = 800_000
"""Units that the inputs, the outputs or one example of a job may take: about 0.2 seconds."""

TOO_LARGE = "is too large to be checked"
"""What is wrong with a value that needs more."""

COPY_UNITS = 8
FORMAT_UNITS = 12
MULTIPLE_UNITS = 10
ENTRY_UNITS = 8
MEMBER_UNITS = 4
ITEM_UNITS = 2
# Characters that a pattern runs over in one unit, for each of its positions.
_CHARACTERS_A_UNIT = 6
_PATTERN_UNITS = 2
_ENCODED_A_UNIT = 256
_READ_A_UNIT = 8


class WorkSpentError(Exception):
    """There is more to do than may be done; never leaves this package."""


@dataclass(slots=True)
class Work:
    """What may still be done for one record, or for one definition.

    Attributes:
        left: Units; less than 0 once something was too much.
    """

    left: int = MAX_WORK
    _phrases: dict[tuple[int, str], tuple[Type, str]] = field(default_factory=dict)

    @property
    def is_spent(self) -> bool:
        """Whether something was not done because it was too much."""
        return self.left < 0

    def pay(self, units: int) -> None:
        """Pay for work that is about to be done.

        Raises:
            WorkSpentError: It is too much.
        """
        self.left -= units
        if self.left < 0:
            raise WorkSpentError

    def pay_for_text(self, text: str) -> None:
        """Pay for looking at a text's characters; one in ASCII knows what it is.

        Raises:
            WorkSpentError: It is too much.
        """
        if not text.isascii():
            self.pay(len(text) // _ENCODED_A_UNIT)

    def pay_for_pattern(self, text: str, *, positions: int) -> None:
        """Pay for a pattern that runs over a text, at each position of the pattern at once where it comes to the worst.

        Raises:
            WorkSpentError: It is too much.
        """
        self.pay(_PATTERN_UNITS + len(text) * positions // _CHARACTERS_A_UNIT)

    def pay_for_reading(self, text: str) -> None:
        """Pay for reading a text as JSON.

        Raises:
            WorkSpentError: It is too much.
        """
        self.pay(1 + len(text) // _READ_A_UNIT)

    def say(self, node: Type, describe: Callable[[Type], str]) -> str:
        """Return a phrase for a type, made once, however many values are not of the type."""
        key = (id(node), describe.__name__)
        known = self._phrases.get(key)
        if known is None or known[0] is not node:
            # The node is kept with its phrase, so that its id stays its own.
            known = self._phrases[key] = (node, describe(node))
        return known[1]
