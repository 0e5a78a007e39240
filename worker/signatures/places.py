"""Where in a definition the parser is, so that every refusal and warning can name it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

from worker.errors import DefinitionError, InvalidSignatureError, Problem
from worker.signatures.signature import pointer_step

MAX_FIELDS = 100
MAX_DEPTH = 8
MAX_NAME_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 16_384
MAX_MEMBERS = 100
MAX_CHOICES = 10_000

# Brackets and tags that add no level to the type (parentheses, optional) still need an end.
_MAX_STEPS = 40
_MAX_QUOTED_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a definition.

    Attributes:
        pointer: JSON pointer into the job's ``args``, e.g. ``/signature/inputs/0/type``.
        field: The wire name of the field around it, or None.
        warnings: Where warnings of the whole definition are gathered.
        steps: How many levels of one type's spelling are around it.
    """

    pointer: str
    field: str | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)
    steps: int = 0

    def at(self, *parts: object) -> Place:
        """Return the place below this one."""
        return replace(self, pointer=self.pointer + "".join(map(pointer_step, parts)))

    def inside(self, *parts: object) -> Place:
        """Return the place one level deeper in a type.

        Raises:
            InvalidSignatureError: The spelling is nested without end.
        """
        if self.steps >= _MAX_STEPS:
            raise self.fault(InvalidSignatureError, f"type is nested deeper than {MAX_DEPTH}", breaks_limit=True)
        return replace(self.at(*parts), steps=self.steps + 1)

    def of_field(self, name: str) -> Place:
        """Return the same place, known to belong to a field."""
        return replace(self, field=name)

    def fault(self, kind: type[DefinitionError], reason: str, *, breaks_limit: bool = False) -> DefinitionError:
        """Return the error for something wrong here; its reason names the field."""
        sentence = reason if self.field is None else f"Field {self.field}: {reason}"
        problem = Problem(self.pointer, reason)
        return kind(sentence, field=self.field, problems=[problem], breaks_limit=breaks_limit)

    def warn(self, text: str) -> None:
        """Note something that is accepted and has no effect."""
        self.warnings.append(text if self.field is None else f"Field {self.field}: {text}")


def quote(text: object) -> str:
    """Return a sender's word for a message: quoted, printable and of bounded length; of anything else its type."""
    whole = text if isinstance(text, str) else type(text).__name__
    cut = whole[:_MAX_QUOTED_CHARACTERS]
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)
    return f"`{shown}…`" if len(whole) > len(cut) else f"`{shown}`"
