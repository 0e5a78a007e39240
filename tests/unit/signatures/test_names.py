"""Every name works: as a field and as a member, in the class, in both schemas and in values."""

from __future__ import annotations

import inspect
import json
import keyword
from typing import Any

import dspy
import pytest
from pydantic import BaseModel

from worker.signatures import check_inputs, parse, read_json_outputs, read_outputs, sample_outputs, write_schema
from worker.signatures.classes import make_signature_class


def public_names(*classes: type) -> set[str]:
    return {name for one in classes for name in dir(one) if not name.startswith("_")}


CLAIMED = sorted(
    public_names(dspy.Signature, dspy.Prediction, dspy.Example, BaseModel, type(dspy.Signature))
    | set(inspect.signature(dspy.Predict.__init__).parameters)
    | set(inspect.signature(dspy.Predict.forward).parameters)
    | {"signature", "new_signature", "demos", "config", "lm", "prediction", "temperature", "max_tokens", "n"}
    | set(keyword.kwlist)
    | set(keyword.softkwlist)
)
STRANGE = [
    "completed",
    "valid?",
    "größe",
    "user-id",
    "f0",
    "f1",
    "reasoning",
    "__init__",
    "__doc__",
    "a b",
    "a.b",
    "名前",
]
STRANGE += [
    "a/b",
    "a~b",
    "{x}",
    "${x}",
    "%s",
    "'",
    '"',
    "\\",
    "type",
    "properties",
    "$ref",
    "required",
    "ok!",
    "_x",
    "½",
]


@pytest.mark.parametrize("name", [*CLAIMED, *STRANGE])
def test_a_name_works_as_input_as_output_and_as_member(name: str) -> None:
    """No list of reserved names can be incomplete, because there is none."""
    member = {"type": "object", "properties": {name: "integer"}}
    as_input = parse({"inputs": [{"name": name, "type": member}], "outputs": [{"name": "other output"}]})
    as_output = parse({"inputs": [{"name": "other input"}], "outputs": [{"name": name, "type": member}]})
    value = {name: {name: 1}}

    assert check_inputs(as_input, value) == (value, [])
    assert read_outputs(as_output, {name: json.dumps({name: 1})}) == value
    assert read_json_outputs(as_output, json.dumps(value)) == value
    assert set(sample_outputs(as_output, seed="")) == {name}
    assert as_output.fingerprint == parse(as_output.to_json()).fingerprint
    for signature, side in ((as_input, "input_fields"), (as_output, "output_fields")):
        made = make_signature_class(signature)
        assert list(made.model_fields) == ["f0", "f1"]
        assert len(getattr(made, side)) == 1


@pytest.mark.parametrize("dialect", ["full", "strict"])
def test_all_names_together_make_schemas(dialect: Any) -> None:
    """Wire names, in the order declared."""
    names = [*CLAIMED, *STRANGE][:99]
    signature = parse({"inputs": [{"name": "in put"}], "outputs": [{"name": one} for one in dict.fromkeys(names)]})
    schema = write_schema(signature, dialect=dialect, side="outputs")

    assert list(schema["properties"]) == schema["required"] == list(dict.fromkeys(names))
    assert len(make_signature_class(signature).output_fields) == len(signature.outputs)
