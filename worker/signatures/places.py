"""Where in a definition the parser is, so that every refusal and warning can name it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import DefinitionError, InvalidSignatureError, Problem
from worker.signatures.nodes import Type, pointer_step, width
from worker.signatures.problems import shorten
from worker.signatures.sizes import count_values, has_long_text
from worker.signatures.work import Work

MAX_FIELDS = 100
MAX_DEPTH = 8
MAX_NAME_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 16_384
MAX_MEMBERS = 100
MAX_CHOICES = 10_000
MAX_TYPES = 2_000
MAX_CHECKS = 100_000
MAX_PATTERN_CHARACTERS = 1_000
MAX_PATTERN_COST = 30_000
MAX_CONSTRAINTS = 100
MAX_MULTIPLE_EXPONENT = 100
MAX_VALUE_CHARACTERS = 8_192
MAX_DEFINITION_WORK = 200_000
MAX_WARNINGS = 100

# Brackets and tags that add no level to the type (parentheses, optional) still need an end.
_MAX_STEPS = 40
_MAX_ADVICE = 20
_MAX_QUOTED_CHARACTERS = 64
_MAX_REASON_CHARACTERS = 500


@dataclass(slots=True)
class Budget:
    """What one definition may still ask for, over all its fields, so that none is slow to read.

    Attributes:
        types: How many more types may stand inside others.
        choices: How many more choices may be listed.
        checks: How many more values of defaults and choices may be checked, times the types that each may have.
        pattern_cost: How much more the compilation of its patterns may cost, in the units of ``patterns.cost_of``.
        patterns: Those that are paid for.
        work: What may be done to check defaults and choices.
        warnings_left_out: How many warnings there were after the first hundred.
    """

    types: int = MAX_TYPES
    choices: int = MAX_CHOICES
    checks: int = MAX_CHECKS
    pattern_cost: int = MAX_PATTERN_COST
    patterns: set[str] = dataclasses.field(default_factory=set)
    work: Work = dataclasses.field(default_factory=lambda: Work(MAX_DEFINITION_WORK))
    warnings_left_out: int = 0

    def can_pay(self, pattern: str, *, cost: int) -> bool:
        """Pay for a pattern, once, and say whether the budget was large enough."""
        if pattern not in self.patterns:
            self.patterns.add(pattern)
            self.pattern_cost -= cost
        return self.pattern_cost >= 0


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a definition.

    Attributes:
        pointer: JSON pointer into the job's ``args``, e.g. ``/signature/inputs/0/type``.
        field: The wire name of the field around it, or None.
        warnings: Where warnings of the whole definition are gathered.
        steps: How many levels of one type's spelling are around it.
        budget: What the whole definition may still ask for.
    """

    pointer: str
    field: str | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    steps: int = 0
    budget: Budget = dataclasses.field(default_factory=Budget)

    def at(self, *parts: object) -> Place:
        """Return the place below this one."""
        pointer = self.pointer + "".join(map(pointer_step, parts))
        return Place(pointer, self.field, self.warnings, self.steps, self.budget)

    def inside(self, *parts: object) -> Place:
        """Return the place one level deeper in a type.

        Raises:
            InvalidSignatureError: The spelling is nested without end, or the definition has too many types.
        """
        if self.steps >= _MAX_STEPS:
            raise self.fault(InvalidSignatureError, f"type is nested deeper than {MAX_DEPTH}", breaks_limit=True)
        pointer = self.pointer
        if parts:
            self._pay_for_type()
            pointer = self.at(*parts).pointer
        return Place(pointer, self.field, self.warnings, self.steps + 1, self.budget)

    def _pay_for_type(self) -> None:
        self.budget.types -= 1
        if self.budget.types < 0:
            raise self.fault(InvalidSignatureError, f"more than {MAX_TYPES} nested types", breaks_limit=True)

    def of_field(self, name: str) -> Place:
        """Return the same place, known to belong to a field."""
        return Place(self.pointer, name, self.warnings, self.steps, self.budget)

    def fault(self, kind: type[DefinitionError], reason: str, *, breaks_limit: bool = False) -> DefinitionError:
        """Return the error for something wrong here; its reason names the field."""
        reason = shorten(reason, most=_MAX_REASON_CHARACTERS)
        sentence = reason if self.field is None else f"Field {self.field}: {reason}"
        problem = Problem(self.pointer, reason)
        return kind(sentence, field=self.field, problems=[problem], breaks_limit=breaks_limit)

    def pay_for_checks(self, values: Sequence[object], node: Type) -> None:
        """Pay for checking defaults or choices against a type.

        Raises:
            InvalidSignatureError: A text in them is too long, or the definition asks for too many checks.
        """
        if has_long_text(list(values), most=MAX_VALUE_CHARACTERS):
            reason = f"a text in a default or choice is longer than {MAX_VALUE_CHARACTERS} characters"
            raise self.fault(InvalidSignatureError, reason, breaks_limit=True)
        self.budget.checks -= width(node) * count_values(list(values))
        self.require_work(self.budget.checks >= 0)

    def require_work(self, is_payable: bool = True) -> None:
        """Accept what was checked, if the definition could pay for it.

        Raises:
            InvalidSignatureError: It could not.
        """
        if not is_payable or self.budget.work.is_spent:
            reason = "too many defaults and choices to check against such types"
            raise self.fault(InvalidSignatureError, reason, breaks_limit=True)

    def require_constraints(self, count: int) -> None:
        """Accept so many constraints of one type.

        Raises:
            InvalidSignatureError: They are too many.
        """
        if count > MAX_CONSTRAINTS:
            reason = f"more than {MAX_CONSTRAINTS} constraints"
            raise self.fault(InvalidSignatureError, reason, breaks_limit=True)

    @property
    def has_room_for_advice(self) -> bool:
        """Whether a warning may say more than what is wrong: looking for the nearest spelling takes its time."""
        return len(self.warnings) < _MAX_ADVICE

    def warn(self, text: str) -> None:
        """Note something that is accepted and has no effect; the first hundred are kept."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text if self.field is None else f"Field {self.field}: {text}")
        else:
            self.budget.warnings_left_out += 1

    def all_warnings(self) -> tuple[str, ...]:
        """Return the warnings of the whole definition, and how many more there were."""
        more = self.budget.warnings_left_out
        return (*self.warnings, f"and {more} more") if more else tuple(self.warnings)


def quote(text: object) -> str:
    """Return a sender's word for a message: quoted, printable and of bounded length; of anything else its type."""
    whole = text if isinstance(text, str) else type(text).__name__
    cut = whole[:_MAX_QUOTED_CHARACTERS]
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return f"`{shown}…`" if len(whole) > len(cut) else f"`{shown}`"
