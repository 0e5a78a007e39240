"""Read the words around a type: whether a value may be absent, its default, its description.

Fields of a signature and members of a nested object have them alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

from worker.errors import InvalidConstraintError
from worker.signatures.constraints import Given, Pair, agreed_word
from worker.signatures.nodes import Type
from worker.signatures.places import Place, quote
from worker.signatures.values import Faults, check_value

_CONTRADICTION = object()
_KEYS = ("required", "optional")


def read_required(beside: Mapping[str, object], given: Given, *, place: Place) -> bool:
    """Return whether a value must be there, as far as ``required`` and ``optional`` tell.

    Senders write ``required: true`` on every field and ``optional: true`` into its constraints, so these two contradict
    each other only where they stand side by side.

    Args:
        beside: The object in which both may stand beside the type.
        given: The constraints, in which both may stand too.
        place: Where the type stands.

    Raises:
        InvalidConstraintError: They contradict each other, or are neither true nor false.
    """
    told = _agreed(_presence(beside.get(key), key, place=place.at(key)) for key in _KEYS) if _any_of(beside) else None
    within = _agreed(_presence_of(agreed_word(given, key)) for key in _KEYS) if _any_of(given.words) else None
    is_told_twice = beside.get("required") is not None and "required" in given.words
    if told is _CONTRADICTION or within is _CONTRADICTION or (is_told_twice and told is not within):
        raise place.fault(InvalidConstraintError, "`required` and `optional` contradict each other")
    return told is not False and within is not False


def read_default(given: Given, node: Type) -> tuple[bool, object]:
    """Return whether there is a default, and the default as its type has it.

    A null for a type that is not nullable says only that the value may be absent.

    Raises:
        InvalidConstraintError: It does not fit the type, or is given twice differently.
    """
    pair = agreed_word(given, "default")
    if pair is None or (pair.value is None and not node.nullable):
        return False, None
    pair.place.pay_for_checks([pair.value], node)
    faults: Faults = []
    value = check_value(pair.value, node, faults=faults, work=pair.place.budget.work)
    pair.place.require_work()
    if faults:
        raise pair.place.fault(InvalidConstraintError, f"the default does not fit the type: it {faults[0][1]}")
    return True, deepcopy(value)


def read_description(own: str, given: Given) -> str:
    """Return the description: the value's own, else the one among its constraints.

    Raises:
        InvalidConstraintError: The one among the constraints is no text, or is given twice differently.
    """
    for pair in given.words.get("description", ()):
        if not isinstance(pair.value, str):
            raise pair.place.fault(InvalidConstraintError, "`description` must be a string")
    agreed = None if own else agreed_word(given, "description")
    return own if agreed is None else str(agreed.value).strip()


def _any_of(words: Mapping[str, object]) -> bool:
    return "required" in words or "optional" in words


def _agreed(told: Iterable[bool | None]) -> object:
    answers = {one for one in told if one is not None}
    if len(answers) > 1:
        return _CONTRADICTION
    return answers.pop() if answers else None


def _presence_of(pair: Pair | None) -> bool | None:
    return None if pair is None else _presence(pair.value, pair.key, place=pair.place)


def _presence(value: object, key: str, *, place: Place) -> bool | None:
    if value is None:
        return None
    if not isinstance(value, bool):
        raise place.fault(InvalidConstraintError, f"{quote(key)} must be true or false")
    return value if key == "required" else not value
