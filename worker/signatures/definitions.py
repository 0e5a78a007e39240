"""Read a whole signature definition: an object or a string → a normalised ``Signature``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import TypeVar

from worker.errors import DefinitionError, InvalidConstraintError, InvalidFieldNameError, InvalidSignatureError
from worker.signatures.bounds import constrain
from worker.signatures.constraints import Given, Pair, agreed_word, meaning_of, read_pairs, sort_pairs
from worker.signatures.grammar import read_signature_text
from worker.signatures.names import read_name
from worker.signatures.nodes import STRING, Type, depth
from worker.signatures.places import MAX_FIELDS, Place, quote
from worker.signatures.signature import Field, Signature
from worker.signatures.spellings import STRUCTURE, open_spelling, require_depth
from worker.signatures.values import Faults, check_value
from worker.signatures.words import require_value

DEFAULT_NAME = "DynamicSignature"

LEGACY = Signature("QuestionAnswer", "", (Field("question", STRING),), (Field("answer", STRING),))
"""The program of senders that declare nothing: one question in, one answer out."""

_LEGACY_TEXT = "question->answer"
_KNOWN_KEYS = frozenset(("name", "description", "inputs", "outputs", "metadata"))
_FIELD_KEYS = frozenset(("name", "type", "description", "constraints", "metadata"))

_Result = TypeVar("_Result")


def is_legacy(definition: object) -> bool:
    """Say whether a definition declares nothing, so that the job is plain question and answer.

    True for None, ``{}``, empty ``inputs`` or ``outputs``, and the string ``question -> answer``.
    """
    if definition is None or definition == {}:
        return True
    if isinstance(definition, str):
        return "".join(definition.split()) == _LEGACY_TEXT
    if not isinstance(definition, Mapping):
        return False
    return any(side in definition and definition[side] in ([], {}, None) for side in ("inputs", "outputs"))


def parse(definition: object) -> Signature:
    """Return the signature that a definition means.

    All fields are read before anything is raised, so ``problems`` names every field at fault; a fault that breaks a
    limit comes first, since no fallback policy may hide it.

    Args:
        definition: A definition object or a string signature, as decoded from JSON; not a legacy one.

    Raises:
        DefinitionError: The definition is refused; the subclass, ``field`` and ``problems`` tell where and why.

    See Also:
        docs/WIRE.md, "Signature definitions".
    """
    place = Place("/signature")
    if isinstance(definition, str):
        return _parse_text(definition, place=place)
    if isinstance(definition, Mapping):
        return _parse_object(definition, place=place)
    raise place.fault(InvalidSignatureError, "a signature is an object or a string", breaks_limit=True)


def _parse_text(text: str, *, place: Place) -> Signature:
    sides = read_signature_text(text, place=place)
    inputs, outputs = (tuple(_plain_field(name, node, place=place) for name, node in side) for side in sides)
    _require_count(len(inputs) + len(outputs), place=place)
    _require_unique((*inputs, *outputs), place=place)
    return Signature(DEFAULT_NAME, "", inputs, outputs)


def _plain_field(name: str, node: Type, *, place: Place) -> Field:
    require_depth(depth(node), place=place.of_field(name))
    return Field(name, node)


def _parse_object(definition: Mapping[str, object], *, place: Place) -> Signature:
    name = _read_text(definition, "name", place=place) or DEFAULT_NAME
    description = _read_text(definition, "description", place=place)
    for key in definition:
        if key not in _KNOWN_KEYS:
            place.warn(f"unknown key {quote(key)} in the signature is ignored")
    inputs, outputs = _read_list(definition, "inputs", place=place), _read_list(definition, "outputs", place=place)
    _require_count(len(inputs) + len(outputs), place=place)
    readings = [_reading(one, place.at("inputs", index)) for index, one in enumerate(inputs)]
    readings += [_reading(one, place.at("outputs", index)) for index, one in enumerate(outputs)]
    fields = _read_all(readings)
    _require_unique(tuple(fields), place=place)
    cut = len(inputs)
    return Signature(name, description, tuple(fields[:cut]), tuple(fields[cut:]), tuple(place.warnings))


def _reading(definition: object, place: Place) -> Callable[[], Field]:
    return lambda: _read_field(definition, place=place)


def _read_all(readings: list[Callable[[], _Result]]) -> list[_Result]:
    taken: list[_Result] = []
    errors: list[DefinitionError] = []
    for read in readings:
        try:
            taken.append(read())
        except DefinitionError as error:
            errors.append(error)
    if errors:
        raise _worst(errors)
    return taken


def _worst(errors: list[DefinitionError]) -> DefinitionError:
    worst = next((error for error in errors if error.breaks_limit), errors[0])
    worst.problems = tuple(problem for error in errors for problem in error.problems)
    return worst


def _read_list(definition: Mapping[str, object], key: str, *, place: Place) -> list[object]:
    side = definition.get(key)
    if not isinstance(side, list) or not side:
        raise place.at(key).fault(InvalidSignatureError, f"{quote(key)} must be a list of at least one field")
    return side


def _read_text(definition: Mapping[str, object], key: str, *, place: Place) -> str:
    text = definition.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise place.at(key).fault(InvalidSignatureError, f"{quote(key)} must be a string")
    return text.strip()


def _require_count(count: int, *, place: Place) -> None:
    if count > MAX_FIELDS:
        raise place.fault(InvalidSignatureError, f"more than {MAX_FIELDS} fields", breaks_limit=True)


def _require_unique(fields: tuple[Field, ...], *, place: Place) -> None:
    seen: set[str] = set()
    for one in fields:
        if one.name in seen:
            raise place.of_field(one.name).fault(InvalidFieldNameError, "the name is used twice")
        seen.add(one.name)


def _read_field(definition: object, *, place: Place) -> Field:
    if not isinstance(definition, Mapping):
        raise place.fault(InvalidSignatureError, "a field is an object with a name")
    name = read_name(definition.get("name"), place=place.at("name"), is_word=False)
    place = place.of_field(name)
    node, from_type = open_spelling(_type_spelling(definition), place=place.at("type"))
    given = sort_pairs([*from_type, *_own_pairs(definition, place=place)])
    node = constrain(require_value(node, place=place.at("type")), given)
    require_depth(depth(node), place=place.at("type"))
    default = agreed_word(given, "default")
    return Field(
        name,
        node,
        description=_read_description(definition, given, place=place),
        required=_read_required(definition, given, place=place) and default is None,
        default=_read_default(default, node),
        has_default=default is not None and not _is_absent(default, node),
        unknown_constraints=given.unknown,
    )


def _type_spelling(definition: Mapping[str, object]) -> object:
    """Return the type as sent; a field may itself be a schema object, with ``items`` or ``anyOf`` beside its name."""
    structure = {key: value for key, value in definition.items() if key in STRUCTURE}
    if not structure:
        return "string"
    return structure["type"] if structure.keys() == {"type"} else structure


def _own_pairs(definition: Mapping[str, object], *, place: Place) -> list[Pair]:
    pairs = read_pairs(definition.get("constraints"), place=place.at("constraints"))
    for key, value in definition.items():
        if key in STRUCTURE or key in _FIELD_KEYS or (value is None and key in ("required", "optional")):
            continue
        if meaning_of(str(key)) is None:
            place.warn(f"unknown key {quote(key)} in the field is ignored")
        elif key not in ("required", "optional"):
            pairs.append(Pair(str(key), value, place.at(key)))
    return pairs


def _read_description(definition: Mapping[str, object], given: Given, *, place: Place) -> str:
    own = _read_text(definition, "description", place=place)
    pairs = given.words.get("description", [])
    for pair in pairs:
        if not isinstance(pair.value, str):
            raise pair.place.fault(InvalidConstraintError, "`description` must be a string")
    agreed = None if own else agreed_word(given, "description")
    return own if agreed is None else str(agreed.value).strip()


def _read_required(definition: Mapping[str, object], given: Given, *, place: Place) -> bool:
    """Return whether the field must be there.

    Senders write ``required: true`` on every field and ``optional: true`` into its constraints, so these two contradict
    each other only where they stand side by side.
    """
    beside = _agreed(_presence(definition.get(key), key, place=place.at(key)) for key in ("required", "optional"))
    within = _agreed(_presence_of(agreed_word(given, key)) for key in ("required", "optional"))
    is_told_twice = definition.get("required") is not None and "required" in given.words
    if beside is _CONTRADICTION or within is _CONTRADICTION or (is_told_twice and beside is not within):
        raise place.fault(InvalidConstraintError, "`required` and `optional` contradict each other")
    return beside is not False and within is not False


_CONTRADICTION = object()


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


def _is_absent(default: Pair, node: Type) -> bool:
    return default.value is None and not node.nullable


def _read_default(default: Pair | None, node: Type) -> object:
    if default is None or _is_absent(default, node):
        return None
    faults: Faults = []
    value = check_value(deepcopy(default.value), node, faults=faults)
    if faults:
        raise default.place.fault(InvalidConstraintError, f"the default does not fit the type: it {faults[0][1]}")
    return value
