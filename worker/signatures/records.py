"""Check all inputs or outputs of a signature at once: a wire name → value mapping in, the same out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import islice

from worker.errors import InvalidInputsError, OutputInvalidError, Problem
from worker.signatures.answers import is_null_text, read_text, unfenced
from worker.signatures.names import normal_name
from worker.signatures.nodes import pointer_step
from worker.signatures.places import MAX_WARNINGS, quote
from worker.signatures.problems import bounded, counted, shorten, shorten_word
from worker.signatures.schemas import Dialect, is_written_as_text
from worker.signatures.signature import Field, Signature
from worker.signatures.strict_json import read_json
from worker.signatures.values import MAX_FAULTS, Faults, check_value
from worker.signatures.work import Work
from worker.suggestions import did_you_mean, nearest

_ABSENT = object()
_MISSING = "missing"
_MAX_PLACE_CHARACTERS = 60
_MAX_REASON_CHARACTERS = 200
# Each costs a comparison with every field.
_MAX_HINTS = 5

_Found = list[tuple[str, Problem]]
"""What is wrong with a record, as (field name, problem)."""


def check_inputs(signature: Signature, inputs: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the inputs of a job as their types have them, and warnings.

    Defaults are filled in, absent optional inputs are left out, and inputs that the signature does not have are dropped
    with a warning.

    Args:
        signature: What the program takes.
        inputs: Wire name → JSON value.

    Raises:
        InvalidInputsError: Something is missing or wrong; ``problems`` names all of it.
    """
    given, warnings = _known(inputs, signature.input_names, side="Input")
    taken, found = _check_record(signature.inputs, given, root="/inputs")
    if found:
        raise _refusal(
            found, InvalidInputsError, unknown=(name for name in inputs if name not in signature.input_names)
        )
    return taken, warnings


def check_outputs(signature: Signature, outputs: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return outputs that a sender gave, as in a demo, as their types have them, and warnings.

    All declared outputs are in the result: an absent optional one is its default, else None.

    Args:
        signature: What the program returns.
        outputs: Wire name → JSON value.

    Raises:
        InvalidInputsError: Something is missing or wrong; ``problems`` names all of it.
    """
    given, warnings = _known(outputs, signature.output_names, side="Output")
    taken, found = _check_record(signature.outputs, given, root="/outputs")
    if found:
        raise _refusal(found, InvalidInputsError)
    return {one.name: taken.get(one.name) for one in signature.outputs}, warnings


def read_outputs(signature: Signature, texts: Mapping[str, object]) -> dict[str, object]:
    """Return what a language model answered, as values of the outputs' types.

    All declared outputs are in the result: an absent optional one is its default, else None. Only text is read; a value
    that is none, from an answer in JSON, is checked as it stands.

    Args:
        signature: What the program returns.
        texts: Wire name → what stood under that name.

    Raises:
        OutputInvalidError: Something is missing or wrong; ``problems`` names all of it.
    """
    taken, found = _check_record(signature.outputs, texts, root="/outputs", read=_read_answer)
    if found:
        raise _refusal(found, OutputInvalidError)
    return {one.name: taken.get(one.name) for one in signature.outputs}


def read_json_outputs(
    signature: Signature, text: str, *, dialect: Dialect = "full", extra_texts: Collection[str] = ()
) -> dict[str, object]:
    """Return the outputs of an answer that is one JSON object, as ``write_schema`` asks for it.

    JSON tells text from numbers, so a value is first taken as it stands; text that is wrong as it stands is read by the
    rules for text. What the strict dialect asks for as text is always read as text.

    Args:
        signature: What the program returns.
        text: The whole answer; spaces and one Markdown code fence may stand around it, nothing else.
        dialect: The one that the schema was written in.
        extra_texts: Names of text outputs of our own, such as a chain of thought; absent ones become empty.

    Returns:
        Wire name → value, as ``read_outputs`` does, and the extra texts by their names.

    Raises:
        OutputInvalidError: It is no such object, or something is missing, unknown or wrong; ``problems`` names all of it.
    """
    given = _read_answer_object(text)
    extras = {name: _extra_text(given.pop(name, "")) for name in extra_texts}
    values = _by_normal_name(given, signature.output_names)
    read = _read_strict if dialect == "strict" else _read_typed
    taken, found = _check_record(signature.outputs, values, root="/outputs", read=read)
    unknown = (name for name in values if name not in signature.output_names)
    found += [
        (shorten_word(name), Problem(f"/outputs{pointer_step(name)}", "is no output of this signature"))
        for name in islice(unknown, MAX_FAULTS)
    ]
    if found:
        raise _refusal(found, OutputInvalidError)
    return extras | {one.name: taken.get(one.name) for one in signature.outputs}


def _read_answer_object(text: str) -> dict[str, object]:
    try:
        answer = read_json(unfenced(text).strip())
    except ValueError as error:
        phrase = f"the answer must be one JSON object: {error}"[:_MAX_REASON_CHARACTERS]
        raise OutputInvalidError(phrase, problems=[Problem("/outputs", phrase)]) from error
    if isinstance(answer, dict):
        return answer
    phrase = "the answer must be a JSON object"
    raise OutputInvalidError(phrase, problems=[Problem("/outputs", phrase)])


def _extra_text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read_typed(value: object, one: Field, faults: Faults, work: Work) -> object:
    if not isinstance(value, str):
        return _read_value(value, one, faults, work)
    found: Faults = []
    taken = check_value(value, one.type, faults=found, work=work)
    if not found:
        return taken
    if one.type.kind == "string" and one.type.choices is None:
        faults += found
        return value
    return _read_answer(value, one, faults, work)


def _read_strict(value: object, one: Field, faults: Faults, work: Work) -> object:
    is_text = isinstance(value, str) and is_written_as_text(one.type)
    return _read_answer(value, one, faults, work) if is_text else _read_typed(value, one, faults, work)


_Read = Callable[[object, Field, Faults, Work], object]


def _read_value(value: object, one: Field, faults: Faults, work: Work) -> object:
    if value is None and not one.type.nullable:
        return _ABSENT
    return check_value(value, one.type, faults=faults, work=work)


def _read_answer(value: object, one: Field, faults: Faults, work: Work) -> object:
    if not isinstance(value, str):
        return _read_value(value, one, faults, work)
    if not one.required and not one.type.nullable and is_null_text(value):
        return _ABSENT
    return read_text(value, one.type, faults=faults, work=work)


def _check_record(
    fields: Sequence[Field], values: Mapping[str, object], *, root: str, read: _Read = _read_value
) -> tuple[dict[str, object], _Found]:
    taken: dict[str, object] = {}
    found: _Found = []
    work = Work()
    for one in fields:
        faults: Faults = []
        value = values.get(one.name, _ABSENT)
        if value is not _ABSENT:
            value = read(value, one, faults, work)
        if faults:
            found.extend((one.name, Problem(f"{root}{one.pointer}{at}", phrase)) for at, phrase in faults[:MAX_FAULTS])
        elif value is not _ABSENT:
            taken[one.name] = value
        elif one.required:
            found.append((one.name, Problem(f"{root}{one.pointer}", _MISSING)))
        elif one.has_default:
            taken[one.name] = deepcopy(one.default)
        if work.is_spent:
            break
    return taken, found


def _known(values: object, names: frozenset[str], *, side: str) -> tuple[Mapping[str, object], list[str]]:
    if not isinstance(values, Mapping):
        phrase = f"{side.lower()}s must be an object"
        raise InvalidInputsError(phrase, problems=[Problem(f"/{side.lower()}s", phrase)])
    if values.keys() <= names:
        return values, []
    unknown = [name for name in values if normal_name(name) not in names]
    hints = _hints(unknown, names - values.keys())
    warnings = [
        f"{side} {quote(name)} is not in the signature and was dropped{hints.get(name, '')}" for name in unknown
    ]
    return _by_normal_name(values, names), counted(warnings, most=MAX_WARNINGS)


def _hints(unknown: Sequence[str], absent: Collection[str]) -> dict[str, str]:
    """Return, for the first names that are not in the signature, which absent field each may have been meant for."""
    return {name: did_you_mean(name, sorted(absent)) for name in unknown[:_MAX_HINTS]}


def _by_normal_name(values: Mapping[str, object], names: frozenset[str]) -> Mapping[str, object]:
    """Return values by name in NFC; one that was given in NFC wins."""
    if values.keys() <= names:
        return values
    exact = {name: value for name, value in values.items() if name in names}
    return {normal_name(name): value for name, value in values.items()} | exact


def _refusal(
    found: _Found, kind: type[InvalidInputsError] | type[OutputInvalidError], *, unknown: Iterable[str] = ()
) -> InvalidInputsError | OutputInvalidError:
    """Return the error that tells the first thing that is wrong, a missing field first, and has all as its problems.

    Args:
        found: What is wrong.
        kind: The class of the error.
        unknown: Names that were given and are not in the signature: one may be the missing field, misspelt.
    """
    problems = bounded(problem for _, problem in found)
    missing = next((name for name, problem in found if problem.problem == _MISSING and not _below(problem)), None)
    if missing is not None:
        meant = nearest(missing, islice(unknown, _MAX_HINTS))
        hint = f"; was it meant by {quote(meant)}?" if meant else ""
        return kind(f"Missing required field: {missing}{hint}", field=missing, problems=problems)
    name, first = found[0]
    below = _below(first)
    where = f" (at /{below[:_MAX_PLACE_CHARACTERS]})" if below else ""
    return kind(f"Field {name}: {shorten(first.problem)}{where}", field=name, problems=problems)


def _below(problem: Problem) -> str:
    """Return the problem's path below its field; empty where it is the field itself."""
    return "".join(problem.path.split("/", 3)[3:])
