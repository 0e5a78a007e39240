"""Write the JSON Schema of a signature's inputs or outputs, from its canonical form.

``full`` says all that JSON Schema can say: for ``describe``, and for llama.cpp, vLLM and Ollama. ``strict`` keeps to what
OpenAI's structured outputs take, and the rest is checked here afterwards:

| | full | strict |
|---|---|---|
| lengths of strings, ``uniqueItems``, ``minProperties``, ``propertyNames``, ``default`` | yes | left out |
| ``format: uri`` | yes | left out |
| ``pattern`` | where JSON Schema spells it as the Rust engine does, else left out | the same |
| maps, and any JSON value | yes | the whole field is asked for as text that holds JSON |
| choices | yes | left out where one is no string, number or boolean, or there are too many |
| a union of objects whose first members have one name | yes | the whole field is asked for as text that holds JSON |
| bounds of integers | yes | left out beyond 2**53 |
| ``required`` | of inputs those that must be there, of outputs all | all; optional ones may be null |

See Also:
    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas: objects are closed and require all their
    properties, at most 1,000 choices in all, 15,000 characters of them in a list of more than 250, 120,000 characters of
    names and choices in all. The fields with the most names are asked for as text where the names alone are more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any, Literal

from worker.signatures.nodes import Member, Type, children_of, item_type, nullable_of, pair_types
from worker.signatures.phrases import describe_type
from worker.signatures.signature import Field, Signature

Dialect = Literal["strict", "full"]
"""How much of JSON Schema the reader of a schema takes."""

Side = Literal["inputs", "outputs"]
"""Which fields of a signature."""

Schema = dict[str, Any]

_NO_TEXTS: Mapping[str, str] = MappingProxyType({})
_NAMES = {"string": "string", "integer": "integer", "float": "number", "boolean": "boolean"}
_RANGE = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusive_minimum": "exclusiveMinimum",
    "exclusive_maximum": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_STRICT_FORMATS = frozenset(("date", "date-time", "time", "uuid", "email", "ipv4", "ipv6"))
_MAX_STRICT_CHOICES = 1_000
_MAX_STRICT_CHOICES_OF_ANY_LENGTH = 250
_MAX_STRICT_CHARACTERS = 15_000
_MAX_STRICT_CHARACTERS_IN_ALL = 120_000
_MAX_STRICT_INTEGER = 2**53
_DECIMAL = r"^-?(0|[1-9][0-9]*)$"
# Flags, named groups, Unicode classes, Rust's anchors and set operations: other readers refuse them or read them otherwise.
_RUST_ONLY = re.compile(r"\(\?(?!:)|\\[pPAzUaQE<>]|\\[xub]\{|&&|--|~~")
_CLASS_MARK = re.compile(r"\\.|\[\^?\]?|\]", re.DOTALL)


def write_schema(
    signature: Signature, *, dialect: Dialect, side: Side, extra_texts: Mapping[str, str] = _NO_TEXTS
) -> Schema:
    """Return a new JSON Schema of one side of a signature: an object with its wire names, and no others.

    Args:
        signature: The normalised signature.
        dialect: What the reader of the schema takes.
        side: Inputs, as a sender gives them; or outputs, as a language model writes them and a reply holds them.
        extra_texts: Name → description of text outputs of our own, put first; such as a chain of thought.
    """
    fields = signature.inputs if side == "inputs" else signature.outputs
    writer = _Writer(dialect, side, fields=fields, taken=sum(map(len, extra_texts)))
    properties: Schema = {name: {"type": "string", "description": text} for name, text in extra_texts.items()}
    properties |= {one.name: writer.write_field(one) for one in fields}
    required = [*extra_texts, *(one.name for one in fields if writer.is_listed(one))]
    return _closed(properties, required)


def is_written_as_text(node: Type) -> bool:
    """Say whether the strict dialect cannot spell a type, so that its values are asked for as text that holds JSON."""
    is_typed_choice = node.choices is not None and all(isinstance(one, (str, int, float)) for one in node.choices)
    if node.kind == "dict" or (node.kind == "any" and not is_typed_choice):
        return True
    return _has_alike_objects(node.members) or any(map(is_written_as_text, children_of(node)))


def _has_alike_objects(members: Sequence[Type]) -> bool:
    """Say whether two objects of a union begin with the same name, which OpenAI refuses."""
    first_names = [member.properties[0].name for member in members if member.properties]
    return len(set(first_names)) < len(first_names)


def _count_name_characters(node: Type) -> int:
    return sum(map(len, node.member_names)) + sum(map(_count_name_characters, children_of(node)))


def _written_as_text(fields: Sequence[Field], *, left: int) -> tuple[frozenset[str], int]:
    """Return which fields the strict dialect asks for as text, and how many characters are left for choices."""
    names = {one.name: _count_name_characters(one.type) for one in fields if not is_written_as_text(one.type)}
    left -= sum(len(one.name) for one in fields) + sum(names.values())
    for name in sorted(names, key=lambda name: names[name], reverse=True):
        if left >= 0:
            break
        left += names.pop(name)
    return frozenset(one.name for one in fields if one.name not in names), left


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


class _Writer:
    """A writer of one schema, which counts what the strict dialect limits."""

    def __init__(self, dialect: Dialect, side: Side, *, fields: Sequence[Field], taken: int) -> None:
        self._is_strict = dialect == "strict"
        self._is_complete = self._is_strict or side == "outputs"
        self._choices_left = _MAX_STRICT_CHOICES
        self._as_text: frozenset[str] = frozenset()
        self._characters_left = 0
        if self._is_strict:
            left = _MAX_STRICT_CHARACTERS_IN_ALL - taken
            self._as_text, self._characters_left = _written_as_text(fields, left=left)

    def is_listed(self, one: Field | Member) -> bool:
        return self._is_complete or one.required

    def write_field(self, one: Field | Member) -> Schema:
        node = one.type if one.required else nullable_of(one.type)
        if isinstance(one, Field) and one.name in self._as_text:
            return _text_of(one)
        written = self._write(node)
        if one.description:
            written["description"] = one.description
        if one.has_default and not self._is_strict:
            written["default"] = deepcopy(one.default)
        return written

    def _write(self, node: Type) -> Schema:
        if node.choices is not None and (chosen := self._write_choices(node)) is not None:
            return chosen
        if node.kind == "any":
            return {"type": list(_JSON_KINDS)} if self._is_strict else {}
        written = _WRITERS[node.kind](self, node)
        return _or_null(written) if node.nullable else written

    def _write_choices(self, node: Type) -> Schema | None:
        """Return the schema of a choice, or nothing where the strict dialect has none for it."""
        choices = list(node.choices or ())
        if not self._is_strict:
            kind: Schema = {"type": _NAMES[node.kind]} if node.kind in _NAMES else {}
            chosen = {**kind, "enum": deepcopy(choices)}
            return _or_null(chosen) if node.nullable else chosen
        if not self._fits(choices):
            return None
        by_kind = [(name, [one for one in choices if _json_kind(one) == name]) for name in _JSON_KINDS]
        options: list[Schema] = [{"type": name, "enum": some} for name, some in by_kind if some]
        options += [{"type": "null"}] if node.nullable else []
        return options[0] if len(options) == 1 else {"anyOf": options}

    def _fits(self, choices: list[object]) -> bool:
        if not all(_json_kind(one) in _JSON_KINDS for one in choices) or len(choices) > self._choices_left:
            return False
        characters = sum(len(one) for one in choices if isinstance(one, str))
        if len(choices) > _MAX_STRICT_CHOICES_OF_ANY_LENGTH and characters > _MAX_STRICT_CHARACTERS:
            return False
        if characters > self._characters_left:
            return False
        self._choices_left -= len(choices)
        self._characters_left -= characters
        return True

    def _write_scalar(self, node: Type) -> Schema:
        written: Schema = {"type": _NAMES[node.kind]}
        ranges = ((word, getattr(node, name)) for name, word in _RANGE.items())
        return written | {word: bound for word, bound in ranges if bound is not None and self._is_spelled(bound)}

    def _is_spelled(self, bound: float) -> bool:
        return not self._is_strict or isinstance(bound, float) or abs(bound) <= _MAX_STRICT_INTEGER

    def _write_string(self, node: Type) -> Schema:
        written: Schema = {"type": "string"}
        if not self._is_strict:
            written |= _lengths(node, "minLength", "maxLength")
        if node.pattern is not None and not _is_rust_only(node.pattern):
            written["pattern"] = node.pattern
        if node.format is not None and (not self._is_strict or node.format in _STRICT_FORMATS):
            written["format"] = node.format
        return written

    def _write_list(self, node: Type) -> Schema:
        written: Schema = {"type": "array", "items": self._write(item_type(node))}
        written |= _lengths(node, "minItems", "maxItems")
        if node.is_unique and not self._is_strict:
            written["uniqueItems"] = True
        return written

    def _write_dict(self, node: Type) -> Schema:
        key, values = pair_types(node)
        written: Schema = {"type": "object", "additionalProperties": self._write(values) or True}
        names = {"pattern": _DECIMAL} if key.kind == "integer" else self._write(key)
        if key.kind == "integer" and key.choices is not None:
            names = {"enum": [str(one) for one in key.choices]}
        if names != {"type": "string"}:
            written["propertyNames"] = names
        return written | _lengths(node, "minProperties", "maxProperties")

    def _write_object(self, node: Type) -> Schema:
        properties = {member.name: self.write_field(member) for member in node.properties}
        return _closed(properties, [member.name for member in node.properties if self.is_listed(member)])

    def _write_union(self, node: Type) -> Schema:
        return {"anyOf": [self._write(member) for member in node.members]}


_WRITERS: dict[str, Callable[[_Writer, Type], Schema]] = {
    "string": _Writer._write_string,
    "integer": _Writer._write_scalar,
    "float": _Writer._write_scalar,
    "boolean": _Writer._write_scalar,
    "list": _Writer._write_list,
    "dict": _Writer._write_dict,
    "object": _Writer._write_object,
    "union": _Writer._write_union,
}

_JSON_KINDS = ("string", "boolean", "integer", "number")


def _json_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else None


def _is_rust_only(pattern: str) -> bool:
    return _RUST_ONLY.search(pattern) is not None or _has_inner_bracket(pattern)


def _has_inner_bracket(pattern: str) -> bool:
    """Say whether a class holds another one, or begins with the bracket that ends it elsewhere."""
    is_inside = False
    for mark in _CLASS_MARK.findall(pattern):
        if mark[0] == "[" and (is_inside or mark[-1] == "]"):
            return True
        is_inside = mark[0] == "[" or (is_inside and mark != "]")
    return False


def _lengths(node: Type, low: str, high: str) -> Schema:
    return {word: bound for word, bound in ((low, node.min_length), (high, node.max_length)) if bound is not None}


def _or_null(written: Schema) -> Schema:
    if "anyOf" in written:
        return {**written, "anyOf": [*written["anyOf"], {"type": "null"}]}
    if "enum" in written and "type" not in written:
        return {"enum": [*written["enum"], None]}
    if written["type"] in ("object", "array"):
        return {"anyOf": [written, {"type": "null"}]}
    choices = {"enum": [*written["enum"], None]} if "enum" in written else {}
    return {**written, "type": [written["type"], "null"], **choices}


def _text_of(one: Field) -> Schema:
    said = f"{one.description} " if one.description else ""
    is_nullable = not one.required or one.type.nullable
    kind = ["string", "null"] if is_nullable else "string"
    return {"type": kind, "description": f"{said}Written as JSON text: {describe_type(one.type)}"}
