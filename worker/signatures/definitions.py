"""Read a whole signature definition: an object or a string → a normalised ``Signature``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from worker.errors import DefinitionError, InvalidFieldNameError, InvalidSignatureError
from worker.signatures.bounds import constrain
from worker.signatures.constraints import Pair, meaning_of, read_pairs, sort_pairs
from worker.signatures.grammar import read_signature_text
from worker.signatures.names import read_name
from worker.signatures.nodes import STRING, Type, depth
from worker.signatures.places import MAX_FIELDS, Place, quote
from worker.signatures.presence import read_default, read_description, read_required
from worker.signatures.problems import bounded
from worker.signatures.signature import Field, Signature
from worker.signatures.sizes import fault_of_size
from worker.signatures.spellings import STRUCTURE, open_spelling, require_depth, structure_of
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
    oversize = fault_of_size(definition)
    if oversize is not None:
        raise place.fault(InvalidSignatureError, oversize, breaks_limit=True)
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
    return Signature(name, description, tuple(fields[:cut]), tuple(fields[cut:]), place.all_warnings())


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
    worst.problems = tuple(bounded(problem for error in errors for problem in error.problems))
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
    has_default, default = read_default(given, node)
    return Field(
        name,
        node,
        description=read_description(_read_text(definition, "description", place=place), given),
        required=read_required(_beside(definition), given, place=place) and "default" not in given.words,
        default=default,
        has_default=has_default,
        unknown_constraints=given.unknown,
    )


def _type_spelling(definition: Mapping[str, object]) -> object:
    """Return the type as sent; a field may itself be a schema object, with ``items`` or ``anyOf`` beside its name."""
    keys = structure_of(definition)
    structure = {key: value for key, value in definition.items() if key in keys}
    if not structure:
        return "string"
    return structure["type"] if structure.keys() == {"type"} else structure


def _beside(definition: Mapping[str, object]) -> Mapping[str, object]:
    """Return what tells of presence beside the type; a nested object's list of names does not."""
    skipped = structure_of(definition)
    return {key: definition[key] for key in ("required", "optional") if key in definition and key not in skipped}


def _own_pairs(definition: Mapping[str, object], *, place: Place) -> list[Pair]:
    pairs = read_pairs(definition.get("constraints"), place=place.at("constraints"))
    place.require_constraints(len(pairs) + len(definition.keys() - STRUCTURE - _FIELD_KEYS))
    for key, value in definition.items():
        if key in STRUCTURE or key in _FIELD_KEYS or (value is None and key in ("required", "optional")):
            continue
        if meaning_of(str(key)) is None:
            place.warn(f"unknown key {quote(key)} in the field is ignored")
        elif key not in ("required", "optional"):
            pairs.append(Pair(str(key), value, place.at(key)))
    return pairs
