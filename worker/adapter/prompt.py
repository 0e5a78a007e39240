"""The parts that prompts are written from, in wire names."""

from __future__ import annotations

from collections.abc import Container, Sequence

from worker.message import dump
from worker.signatures import Field, describe_type

_ESCAPED = {"[[ ##": "[[ \\##", "## ]]": "\\## ]]"}


def free_word(word: str, taken: Container[str]) -> str:
    """Return a word that is not taken, by adding underscores to it."""
    while word in taken:
        word += "_"
    return word


def marker(name: str) -> str:
    """Return a section's header line."""
    return f"[[ ## {name} ## ]]"


def section(name: str, text: str) -> str:
    """Return a section: its header and its text."""
    return f"{marker(name)}\n{text}"


def numbered(lines: Sequence[str]) -> list[str]:
    """Number lines from 1."""
    return [f"{number}. {line}" for number, line in enumerate(lines, start=1)]


def describe(field: Field) -> str:
    """Return one line on a field: name, type, description."""
    description = f": {escape(field.description)}" if field.description else ""
    return f"`{field.name}` ({escape(describe_type(field.type))}){description}"


def placeholder(field: Field) -> str:
    """Return what stands for an output where the structure is shown."""
    form = required_form(field)
    return f"{{{field.name}}}" + (f"        # must be: {form}" if form else "")


def required_form(field: Field) -> str:
    """Return what an output must look like, or nothing where any text will do."""
    phrase = describe_type(field.type)
    if phrase == "string":
        return ""
    is_json = field.type.kind not in ("string", "integer", "float", "boolean")
    return escape(phrase) + (", as JSON" if is_json else "")


def as_text(value: object) -> str:
    """Return a string as it is and any other value as JSON."""
    return value if isinstance(value, str) else dump(value).decode()


def escape(text: str) -> str:
    """Break section markers inside inputs and descriptions, so that no text can pose as a field."""
    for marker, escaped in _ESCAPED.items():
        text = text.replace(marker, escaped)
    return text
