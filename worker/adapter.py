r"""Our DSPy adapter: wire names in the prompt and in the answer, and no second LM call.

DSPy's own chat adapter reads headers with ``\w+`` and writes field names as they are in the class, so it could serve
neither ``valid?`` nor ``user-id`` nor a field called ``signature``. Inside, every field is ``f0``, ``f1``, …; this
adapter shows the model the names that the sender declared, and reads back exactly those. What does not depend on the
inputs is written once per signature.

The format is the one that DSPy's models are used to: sections under ``[[ ## name ## ]]``, and an end marker.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from dspy.adapters import Adapter

from worker.errors import OutputInvalidError, Problem
from worker.message import dump
from worker.signatures import Field, Signature, describe_type, read_outputs
from worker.signatures.classes import field_name, instructions_of

_REASONING = "reasoning"
_END = "completed"
_ESCAPED = {"[[ ##": "[[ \\##", "## ]]": "\\## ]]"}


class WireAdapter(Adapter):
    """Formats prompts and reads answers of one signature.

    Args:
        signature: The normalised signature.
        has_reasoning: Whether the model writes a chain of thought first, in a section of its own.
    """

    def __init__(self, signature: Signature, *, has_reasoning: bool = False) -> None:
        super().__init__()
        self.signature = signature
        self.inputs = {field_name(index): field for index, field in enumerate(signature.inputs)}
        self.outputs = {
            field_name(index + len(signature.inputs)): field for index, field in enumerate(signature.outputs)
        }
        taken = {field.name for field in (*signature.inputs, *signature.outputs)}
        self.end_marker = free_word(_END, taken)
        self.reasoning_name = free_word(_REASONING, taken | {self.end_marker}) if has_reasoning else None
        self.reasoning_key = field_name(len(self.inputs) + len(self.outputs)) if has_reasoning else None
        self._internal = {field.name: key for key, field in (self.inputs | self.outputs).items()}
        self._header = self._compile_header()
        self._system = {"role": "system", "content": self._write_system()}
        self._reminder = self._write_reminder()

    def to_internal(self, values: Mapping[str, object]) -> dict[str, object]:
        """Return values by internal name, given by wire name."""
        return {self._internal[name]: value for name, value in values.items()}

    def to_wire(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return outputs by wire name, in the declared order, given by internal name."""
        return {field.name: values[key] for key, field in self.outputs.items()}

    def format(self, signature: Any, demos: Sequence[Any], inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Write the messages: system, examples, and the inputs with a reminder of the format."""
        messages = [self._system]
        for demo in demos:
            messages.append({"role": "user", "content": self._write_inputs(demo)})
            shown = {name: _escape(_text(value)) for name, value in self.to_wire(demo).items()}
            messages.append({"role": "assistant", "content": self.write_answer(shown)})
        content = f"{self._write_inputs(inputs)}\n\n{self._reminder}".strip()
        messages.append({"role": "user", "content": content})
        return messages

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Read an answer into valid values by internal name.

        Raises:
            OutputInvalidError: A section is missing or doubled, or a value breaks its type or a constraint.
        """
        sections = self._split(completion)
        reasoning = sections.pop(self.reasoning_name, "") if self.reasoning_name else ""
        values = self.to_internal(read_outputs(self.signature, sections))
        if self.reasoning_key is not None:
            values[self.reasoning_key] = reasoning
        return values

    def write_answer(self, values: Mapping[str, object]) -> str:
        """Write outputs, by wire name, as the model is asked to write them."""
        parts = [_section(self.reasoning_name, "Not supplied for this example.")] if self.reasoning_name else []
        parts += [_section(field.name, _text(values.get(field.name))) for field in self.outputs.values()]
        return "\n\n".join([*parts, _marker(self.end_marker)])

    def _split(self, completion: str) -> dict[str, str]:
        """Cut an answer into sections; what stands before the first header or after the end marker is dropped."""
        sections: dict[str, list[str]] = {}
        current: list[str] = []
        # Not splitlines: it also cuts at form feeds and U+2028, which are characters of a text.
        for line in completion.split("\n"):
            match = self._header.match(line)
            if match is None:
                current.append(line)
                continue
            name = match.group("name")
            if name == self.end_marker:
                break
            if name in sections:
                raise OutputInvalidError(
                    f"the answer holds the field '{name}' twice",
                    field=name,
                    problems=[Problem(f"/outputs/{name}", "answered twice")],
                )
            rest = line[match.end() :].strip()
            current = sections[name] = [rest] if rest else []
        return {name: "\n".join(lines).strip() for name, lines in sections.items()}

    def _compile_header(self) -> re.Pattern[str]:
        names = [field.name for field in self.outputs.values()] + [self.end_marker]
        if self.reasoning_name:
            names.append(self.reasoning_name)
        # Only this signature's names are headers: what a text output quotes of other markers stays text.
        alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return re.compile(rf"\s*\[\[ ## (?P<name>{alternatives}) ## \]\]")

    def _write_system(self) -> str:
        sections = [_section(field.name, f"{{{field.name}}}") for field in self.inputs.values()]
        if self.reasoning_name:
            sections.append(_section(self.reasoning_name, f"{{{self.reasoning_name}}}"))
        sections += [_section(field.name, _placeholder(field)) for field in self.outputs.values()]
        reasoning = [f"`{self.reasoning_name}` (string): think step by step"] if self.reasoning_name else []
        return "\n".join(
            [
                "Your input fields are:",
                *_numbered([_describe(field) for field in self.inputs.values()]),
                "Your output fields are:",
                *_numbered(reasoning + [_describe(field) for field in self.outputs.values()]),
                "All interactions will be structured in the following way, with the appropriate values filled in.",
                "",
                "\n\n".join([*sections, _marker(self.end_marker)]),
                "",
                f"In adhering to this structure, your objective is: {_escape(instructions_of(self.signature))}",
            ]
        )

    def _write_reminder(self) -> str:
        fields = [f"`{_marker(name)}`" + (f" (must be: {form})" if form else "") for name, form in self._forms()]
        if self.reasoning_name:
            fields.insert(0, f"`{_marker(self.reasoning_name)}`")
        return (
            "Respond with the corresponding output fields, starting with the field "
            + ", then ".join(fields)
            + f", and then ending with the marker for `{_marker(self.end_marker)}`."
        )

    def _forms(self) -> list[tuple[str, str]]:
        return [(field.name, _form(field)) for field in self.outputs.values()]

    def _write_inputs(self, values: Mapping[str, Any]) -> str:
        present = [(field, values[key]) for key, field in self.inputs.items() if key in values]
        return "\n\n".join(_section(field.name, _escape(_text(value))) for field, value in present)


def free_word(word: str, taken: Container[str]) -> str:
    """Return a word that is not taken, by adding underscores to it."""
    while word in taken:
        word += "_"
    return word


def _marker(name: str) -> str:
    return f"[[ ## {name} ## ]]"


def _section(name: str, text: str) -> str:
    return f"{_marker(name)}\n{text}"


def _numbered(lines: Sequence[str]) -> list[str]:
    return [f"{number}. {line}" for number, line in enumerate(lines, start=1)]


def _describe(field: Field) -> str:
    description = f": {_escape(field.description)}" if field.description else ""
    return f"`{field.name}` ({_escape(describe_type(field.type))}){description}"


def _placeholder(field: Field) -> str:
    form = _form(field)
    return f"{{{field.name}}}" + (f"        # must be: {form}" if form else "")


def _form(field: Field) -> str:
    """Return what an output must look like, or nothing where any text will do."""
    phrase = describe_type(field.type)
    if phrase == "string":
        return ""
    is_json = field.type.kind not in ("string", "integer", "float", "boolean")
    return _escape(phrase) + (", as JSON" if is_json else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else dump(value).decode()


def _escape(text: str) -> str:
    """Break section markers inside inputs and descriptions, so that no text can pose as a field."""
    for marker, escaped in _ESCAPED.items():
        text = text.replace(marker, escaped)
    return text
