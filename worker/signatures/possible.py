"""Say at a glance which members of a union a value may be of, so that only those are checked."""

from __future__ import annotations

from collections.abc import Sequence

from worker.signatures.names import normal_name
from worker.signatures.nodes import Type
from worker.signatures.work import Work

_JSON_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),
    "float": (int, float),
    "boolean": (bool,),
    "any": (object,),
    "list": (list,),
    "dict": (dict,),
    "object": (dict,),
    "union": (object,),
}


def possible_members(value: object, members: Sequence[Type], *, work: Work) -> list[Type]:
    """Return the members of a union that a value may be of, at a glance: by its kind, and an object by its names.

    Raises:
        WorkSpentError: They are too many to look at.
    """
    work.pay(len(members))
    if not isinstance(value, dict):
        return [member for member in members if isinstance(value, _JSON_KINDS[member.kind])]
    work.pay(len(value))
    names = set(map(normal_key, value))
    return [
        member
        for member in members
        if isinstance(value, _JSON_KINDS[member.kind])
        and (not member.properties or member.required_names <= names <= member.member_names)
    ]


def normal_key(name: object) -> object:
    """Return the key of an object in NFC; of anything else, itself."""
    return normal_name(name) if isinstance(name, str) else name
