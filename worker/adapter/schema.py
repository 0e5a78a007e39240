"""The format for models that take a response schema: one JSON object under the wire names.

The schema is written from the normalised signature. DSPy's own would leave out constraints, and all of a map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.adapter.chat import WireAdapter
from worker.adapter.prompt import as_text, section
from worker.signatures import Dialect, Field, Signature, describe_type, read_json_outputs, write_schema
from worker.signatures.schemas import is_written_as_text

_SCHEMA_NAME = "outputs"
_THINK = "Think step by step"


class SchemaAdapter(WireAdapter):
    """Asks for a JSON object and reads it.

    Args:
        signature: The normalised signature.
        dialect: ``strict`` keeps to what OpenAI takes; ``full`` says all that JSON Schema can say.
        has_reasoning: Whether the model writes a chain of thought first, as a member of its own.
    """

    def __init__(self, signature: Signature, *, dialect: Dialect, has_reasoning: bool = False) -> None:
        self._dialect = dialect
        super().__init__(signature, has_reasoning=has_reasoning)
        schema = write_schema(signature, dialect=dialect, side="outputs", extra_texts=self._extra_texts)
        json_schema = {"name": _SCHEMA_NAME, "schema": schema, "strict": dialect == "strict"}
        self._response_format = {"type": "json_schema", "json_schema": json_schema}

    @property
    def lm_options(self) -> dict[str, Any]:
        """The response schema, as every LM call takes it."""
        return {"response_format": self._response_format}

    def read_answer(self, completion: str) -> tuple[dict[str, object], str]:
        """Return outputs by wire name, and the chain of thought."""
        outputs = read_json_outputs(
            self.signature, completion, dialect=self._dialect, extra_texts=tuple(self._extra_texts)
        )
        reasoning = outputs.pop(self.reasoning_name, "") if self.reasoning_name else ""
        return outputs, str(reasoning)

    def write_answer(self, values: Mapping[str, object]) -> str:
        """Write outputs, by wire name, as one JSON object."""
        members: dict[str, object] = dict.fromkeys(self._extra_texts, "Not supplied for this example.")
        members |= {field.name: self._member(field, values.get(field.name)) for field in self.outputs.values()}
        return json.dumps(members, ensure_ascii=False, allow_nan=False)

    def write_demo(self, outputs: Mapping[str, object]) -> str:
        """Write an example's outputs; in JSON no text can pose as a field."""
        return self.write_answer(outputs)

    def _member(self, field: Field, value: object) -> object:
        is_text = self._dialect == "strict" and value is not None and is_written_as_text(field.type)
        return as_text(value) if is_text else value

    @property
    def _extra_texts(self) -> dict[str, str]:
        return {self.reasoning_name: _THINK} if self.reasoning_name else {}

    def _write_structure(self) -> str:
        sections = [section(field.name, f"{{{field.name}}}") for field in self.inputs.values()]
        members = {name: f"{{{name}}}" for name in self._extra_texts}
        members |= {field.name: describe_type(field.type) for field in self.outputs.values()}
        shown = json.dumps(members, ensure_ascii=False, indent=2)
        return "\n\n".join([*sections, f"The outputs are one JSON object with these fields:\n\n{shown}"])

    def _write_reminder(self) -> str:
        names = [*self._extra_texts, *(field.name for field in self.outputs.values())]
        listed = ", then ".join(f"`{name}`" for name in names)
        return f"Respond with one JSON object and nothing else, with the fields {listed}."
