"""Put a list of choices on a type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.errors import InvalidConstraintError
from worker.signatures.constraints import Pair
from worker.signatures.nodes import Type, identity
from worker.signatures.phrases import describe_type
from worker.signatures.places import MAX_CHOICES, Place, quote
from worker.signatures.values import Faults, check_value


def choose(node: Type, pairs: list[Pair]) -> Type:
    """Return the type with choices on it, each of which satisfies the constraints that the type already has.

    Raises:
        InvalidConstraintError: They are no list, too many, none, given twice differently, or one does not fit the type.
    """
    found = [_read_choices(node, pair) for pair in pairs]
    for pair, choices in zip(pairs[1:], found[1:], strict=True):
        if _identities(choices) != _identities(found[0]):
            raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} contradicts another constraint")
    has_null = any(None in pair.value for pair in pairs if isinstance(pair.value, list))
    return _with_choices(node, found[0], is_nullable=node.nullable and (node.kind != "any" or has_null))


def _with_choices(node: Type, choices: list[object], *, is_nullable: bool) -> Type:
    distinct: dict[object, object] = {}
    for choice in choices:
        distinct.setdefault(identity(choice), choice)
    children: dict[str, Any] = {
        name: getattr(node, name) for name in ("items", "key", "values", "members", "properties")
    }
    return Type(node.kind, nullable=is_nullable, choices=tuple(distinct.values()), **children)


def _read_choices(node: Type, pair: Pair) -> list[object]:
    if not isinstance(pair.value, list):
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} must be a list")
    pair.place.budget.choices -= len(pair.value)
    if pair.place.budget.choices < 0:
        reason = f"{quote(pair.key)} makes more than {MAX_CHOICES} choices in the definition"
        raise pair.place.fault(InvalidConstraintError, reason, breaks_limit=True)
    taken = [value for value in require_fits(pair.value, node, place=pair.place) if value is not None]
    if not taken:
        raise pair.place.fault(InvalidConstraintError, f"{quote(pair.key)} leaves no choice")
    return taken


def require_fits(choices: Sequence[object], node: Type, *, place: Place) -> list[object]:
    """Return choices as their type has them.

    Raises:
        InvalidConstraintError: One of them does not fit the type.
        InvalidSignatureError: There is too much to check.
    """
    place.pay_for_checks(choices, node)
    taken = []
    for index, choice in enumerate(choices):
        faults: Faults = []
        taken.append(check_value(choice, node, faults=faults, work=place.budget.work))
        place.require_work()
        if faults:
            reason = f"a choice does not fit the type ({describe_type(node)}): {faults[0][1]}"
            raise place.at(index).fault(InvalidConstraintError, reason)
    return taken


def _identities(choices: list[object]) -> set[object]:
    return {identity(choice) for choice in choices}
