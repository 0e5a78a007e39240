r"""Our DSPy adapter: wire names in the prompt and in the answer, and no second LM call.

DSPy's own chat adapter reads headers with ``\w+`` and writes field names as they are in the class, so it could serve
neither ``valid?`` nor ``user-id`` nor a field called ``signature``. Inside, every field is ``f0``, ``f1``, …; this
adapter shows the model the names that the sender declared, and reads back exactly those. What does not depend on the
inputs is written once per signature.

The format is the one that DSPy's models are used to: sections under ``[[ ## name ## ]]``, and an end marker. An answer
that is not valid is asked for again in the same conversation, with every problem named; see `WireAdapter.asking_again`.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from dspy.adapters import Adapter

from worker.adapter.prompt import (
    as_text,
    describe,
    escape,
    free_word,
    marker,
    numbered,
    placeholder,
    required_form,
    section,
)
from worker.errors import OutputInvalidError, Problem, encodable
from worker.signatures import Signature, read_outputs
from worker.signatures.classes import field_name, instructions_of

_REASONING = "reasoning"
_END = "completed"
# What is shown of an invalid answer: enough to mend it, and a bound on what a repair can cost.
_MAX_SHOWN = 20_000


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
        self._input_names = {field.name for field in signature.inputs}
        self._header = self._compile_header()
        self._end = self._compile_end()
        self._system = {"role": "system", "content": self._write_system()}
        self._reminder = self._write_reminder()
        self._repair: list[dict[str, Any]] = []

    @property
    def lm_options(self) -> dict[str, Any]:
        """LM keywords that go with this format."""
        return {}

    def asking_again(self, error: OutputInvalidError) -> Self:
        """Return an adapter that shows the model its last answer and what was wrong with it."""
        again = copy.copy(self)
        again._repair = [
            {"role": "assistant", "content": error.answer[:_MAX_SHOWN] or "(empty)"},
            {"role": "user", "content": "\n".join([*_complaints(error), "", self._reminder])},
        ]
        return again

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
            messages.append({"role": "assistant", "content": self.write_demo(self.to_wire(demo))})
        content = f"{self._write_inputs(inputs)}\n\n{self._reminder}".strip()
        return [*messages, {"role": "user", "content": content}, *self._repair]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Read an answer into valid values by internal name.

        Raises:
            OutputInvalidError: A section is missing or doubled, or a value breaks its type or a constraint; with the
                answer, so that it can be shown again.
        """
        try:
            _check_encodable(completion)
            outputs, reasoning = self.read_answer(completion)
        except OutputInvalidError as error:
            error.answer = encodable(completion)
            raise
        values = self.to_internal(outputs)
        if self.reasoning_key is not None:
            values[self.reasoning_key] = reasoning
        return values

    def read_answer(self, completion: str) -> tuple[dict[str, object], str]:
        """Return outputs by wire name, and the chain of thought."""
        sections = self._split(completion)
        reasoning = sections.pop(self.reasoning_name, "") if self.reasoning_name else ""
        return read_outputs(self.signature, sections), reasoning

    def write_answer(self, values: Mapping[str, object]) -> str:
        """Write outputs, by wire name, as the model is asked to write them."""
        parts = [section(self.reasoning_name, "Not supplied for this example.")] if self.reasoning_name else []
        parts += [section(field.name, as_text(values.get(field.name))) for field in self.outputs.values()]
        return "\n\n".join([*parts, marker(self.end_marker)])

    def write_demo(self, outputs: Mapping[str, object]) -> str:
        """Write an example's outputs; a marker inside a text must not pose as a field."""
        return self.write_answer({name: escape(as_text(value)) for name, value in outputs.items()})

    def _split(self, completion: str) -> dict[str, str]:
        """Cut an answer into sections; what stands before the first header or after the end marker is dropped."""
        end = self._end.search(completion)
        text = completion[: end.start()] if end else completion
        headers = list(self._header.finditer(text))
        sections: dict[str, str] = {}
        for header, following in itertools.zip_longest(headers, headers[1:]):
            stop = following.start() if following else len(text)
            name = header.group("name")
            if name in sections:
                raise OutputInvalidError(
                    f"the answer holds the field '{name}' twice",
                    field=name,
                    problems=[Problem(f"/outputs/{name}", "answered twice")],
                )
            sections[name] = text[header.end() : stop].strip()
        # An input that the model repeats ends the section before it and is no output itself.
        return {name: content for name, content in sections.items() if name not in self._input_names}

    def _compile_header(self) -> re.Pattern[str]:
        """Match this signature's own names at the start of a line; what a text quotes of other markers stays text."""
        names = [field.name for field in (*self.inputs.values(), *self.outputs.values())]
        if self.reasoning_name:
            names.append(self.reasoning_name)
        return re.compile(rf"^[ \t]*\[\[ ## (?P<name>{_any_of(names)}) ## \]\]", re.MULTILINE)

    def _compile_end(self) -> re.Pattern[str]:
        """Match the end marker at the end of a line.

        Models are used to DSPy's own marker; where no field has that name, it ends an answer too.
        """
        names = {self.end_marker, _END} - {field.name for field in (*self.inputs.values(), *self.outputs.values())}
        return re.compile(rf"\[\[ ## (?:{_any_of(names)}) ## \]\][ \t\r]*$", re.MULTILINE)

    def _write_system(self) -> str:
        reasoning = [f"`{self.reasoning_name}` (string): think step by step"] if self.reasoning_name else []
        return "\n".join(
            [
                "Your input fields are:",
                *numbered([describe(field) for field in self.inputs.values()]),
                "Your output fields are:",
                *numbered(reasoning + [describe(field) for field in self.outputs.values()]),
                "All interactions will be structured in the following way, with the appropriate values filled in.",
                "",
                self._write_structure(),
                "",
                f"In adhering to this structure, your objective is: {escape(instructions_of(self.signature))}",
            ]
        )

    def _write_structure(self) -> str:
        sections = [section(field.name, f"{{{field.name}}}") for field in self.inputs.values()]
        if self.reasoning_name:
            sections.append(section(self.reasoning_name, f"{{{self.reasoning_name}}}"))
        sections += [section(field.name, placeholder(field)) for field in self.outputs.values()]
        return "\n\n".join([*sections, marker(self.end_marker)])

    def _write_reminder(self) -> str:
        fields = [f"`{marker(name)}`" + (f" (must be: {form})" if form else "") for name, form in self._forms()]
        if self.reasoning_name:
            fields.insert(0, f"`{marker(self.reasoning_name)}`")
        return (
            "Respond with the corresponding output fields, starting with the field "
            + ", then ".join(fields)
            + f", and then ending with the marker for `{marker(self.end_marker)}`."
        )

    def _forms(self) -> list[tuple[str, str]]:
        return [(field.name, required_form(field)) for field in self.outputs.values()]

    def _write_inputs(self, values: Mapping[str, Any]) -> str:
        present = [(field, values[key]) for key, field in self.inputs.items() if key in values]
        return "\n\n".join(section(field.name, escape(as_text(value))) for field, value in present)


def _any_of(names: Iterable[str]) -> str:
    """Write names as alternatives of a regular expression, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def _check_encodable(completion: str) -> None:
    if not completion.isascii() and encodable(completion) != completion:
        raise OutputInvalidError("the answer holds a lone surrogate, which is not a character")


def _complaints(error: OutputInvalidError) -> list[str]:
    """Say what was wrong with an answer, in wire names."""
    problems = [f"- `{problem.path.removeprefix('/outputs/')}`: {problem.problem}" for problem in error.problems]
    return ["Your answer is not valid:", *(problems or [f"- {error.reason}"])]
