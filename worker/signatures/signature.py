"""A normalised signature: what a definition means, whatever its spelling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.signatures.nodes import Type, pointer_step
from worker.signatures.spelling import spell, spell_base, spell_constraints


@dataclass(frozen=True, slots=True)
class Field:
    """One input or output of a signature.

    Attributes:
        name: The wire name, in NFC.
        type: What values it takes.
        description: What the field means, for the prompt; trimmed, empty if none was given.
        required: False if it may be absent; always False where there is a default.
        default: The value of an absent field; it satisfies ``type``. Only meaningful with ``has_default``.
        has_default: Whether a default was declared; None may be one, for a nullable type.
        unknown_constraints: Constraint as sent → value; kept, never enforced, each warned about.
        pointer: The name as one step of a JSON pointer, e.g. ``/user~1id``.
    """

    name: str
    type: Type
    description: str = ""
    required: bool = True
    default: object = field(default=None, hash=False)
    has_default: bool = False
    unknown_constraints: Mapping[str, object] = field(default_factory=dict, hash=False)
    pointer: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pointer", pointer_step(self.name))

    def to_json(self) -> dict[str, object]:
        """Return the field as a definition in canonical spelling."""
        constraints = {**spell_constraints(self.type), **self.unknown_constraints}
        written: dict[str, object] = {
            "name": self.name,
            "type": spell_base(self.type),
            "description": self.description,
            "required": self.required,
            "constraints": constraints,
        }
        if self.has_default:
            written["default"] = self.default
        return written


@dataclass(frozen=True, slots=True)
class Signature:
    """A normalised signature: typed inputs → typed outputs.

    Attributes:
        name: What the sender calls it; not part of the meaning.
        description: The instructions, trimmed, empty if none were given.
        inputs: At least one field, in the order declared.
        outputs: At least one field, in the order declared.
        warnings: What was kept without being enforced, or ignored; one sentence each.
        fingerprint: SHA-256 of the meaning, 64 hex digits. Two spellings of the same signature have the same one;
            neither the name nor the definition's ``metadata`` is in it.
        input_names: The wire names of the inputs.
        output_names: The wire names of the outputs.
    """

    name: str
    description: str = field(compare=False)
    inputs: tuple[Field, ...] = field(compare=False)
    outputs: tuple[Field, ...] = field(compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    fingerprint: str = field(init=False)
    input_names: frozenset[str] = field(init=False, repr=False, compare=False)
    output_names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self))
        object.__setattr__(self, "input_names", frozenset(one.name for one in self.inputs))
        object.__setattr__(self, "output_names", frozenset(one.name for one in self.outputs))

    def to_json(self) -> dict[str, object]:
        """Return the definition in canonical spelling, the reply's ``signature_normalized``.

        Parsing it again gives the same fingerprint.
        """
        return {
            "name": self.name,
            "description": self.description,
            "inputs": [one.to_json() for one in self.inputs],
            "outputs": [one.to_json() for one in self.outputs],
        }


def _fingerprint(signature: Signature) -> str:
    meaning = {
        "description": signature.description,
        "inputs": [_meaning(one) for one in signature.inputs],
        "outputs": [_meaning(one) for one in signature.outputs],
    }
    canonical = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _meaning(one: Field) -> list[object]:
    default = [one.default] if one.has_default else []
    return [one.name, spell(one.type), one.description, one.required, default, dict(one.unknown_constraints)]
