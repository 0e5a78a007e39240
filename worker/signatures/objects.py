"""Read nested objects with named members, as JSON Schema writes them.

A member is required, optional, nullable and defaulted as a field of the signature is. Where a ``required`` list stands, it
names the required members; where none stands, each member says so itself and is required by default. No other members
are allowed in a value, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker.errors import InvalidConstraintError, InvalidFieldNameError, InvalidSignatureError, UnknownTypeError
from worker.signatures.bounds import constrain
from worker.signatures.constraints import Pair, sort_pairs
from worker.signatures.names import normal_name, read_name
from worker.signatures.nodes import Member, Type, object_of
from worker.signatures.places import MAX_MEMBERS, Place, quote
from worker.signatures.presence import read_default, read_description, read_required
from worker.signatures.words import require_value

Open = Callable[..., tuple[Type, list[Pair]]]
"""``spellings.open_spelling``, handed in because each of the two reads what stands inside the other."""


def read_object(schema: Mapping[str, object], *, place: Place, open_spelling: Open) -> Type:
    """Return the type of a schema object with ``properties``.

    Raises:
        DefinitionError: A member is refused, or the object has none, too many, or other members beside them.
    """
    if schema.get("additionalProperties", False) is not False:
        reason = "an object has either `properties` or `additionalProperties`, not both"
        raise place.at("additionalProperties").fault(UnknownTypeError, reason)
    properties = schema["properties"]
    inner = place.at("properties")
    if not isinstance(properties, Mapping) or not properties:
        reason = "`properties` is an object of at least one member; for any members use `map`"
        raise inner.fault(UnknownTypeError, reason)
    if len(properties) > MAX_MEMBERS:
        raise inner.fault(InvalidSignatureError, f"more than {MAX_MEMBERS} members in one object", breaks_limit=True)
    listed = _read_listed(schema.get("required"), place=place.at("required"))
    members = [
        _read_member(name, spelling, listed=listed, place=inner.inside(name), open_spelling=open_spelling)
        for name, spelling in properties.items()
    ]
    _require_names([member.name for member in members], listed, place=place)
    return object_of(members)


def _read_listed(required: object, *, place: Place) -> frozenset[str] | None:
    if required is None:
        return None
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise place.fault(InvalidConstraintError, "`required` is a list of the names of members")
    return frozenset(map(normal_name, required))


def _require_names(names: list[str], listed: frozenset[str] | None, *, place: Place) -> None:
    for name in names:
        if names.count(name) > 1:
            raise place.at("properties").fault(InvalidFieldNameError, f"member {quote(name)} is named twice")
    unknown = sorted((listed or frozenset()).difference(names))
    if unknown:
        raise place.at("required").fault(InvalidConstraintError, f"{quote(unknown[0])} is none of the `properties`")


def _read_member(
    name: object, spelling: object, *, listed: frozenset[str] | None, place: Place, open_spelling: Open
) -> Member:
    wire_name = read_name(name, place=place, is_word=False)
    node, pairs = open_spelling({} if spelling is True else spelling, place=place)
    given = sort_pairs(pairs)
    node = constrain(require_value(node, place=place), given)
    is_required = read_required({}, given, place=place)
    if listed is not None:
        is_required = _agree(wire_name in listed, is_required, is_told="required" in given.words, place=place)
    has_default, default = read_default(given, node)
    return Member(
        wire_name,
        node,
        description=read_description("", given),
        required=is_required and "default" not in given.words,
        default=default,
        has_default=has_default,
    )


def _agree(is_listed: bool, is_required: bool, *, is_told: bool, place: Place) -> bool:
    """Return whether a member is required where a list and perhaps the member itself tell."""
    if (is_listed and not is_required) or (is_told and is_required and not is_listed):
        raise place.fault(InvalidConstraintError, "the `required` list and the member contradict each other")
    return is_listed
