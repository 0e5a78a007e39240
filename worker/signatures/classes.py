"""Build the DSPy signature class of a signature: the only module here that imports DSPy.

Inside, every field is ``f0``, ``f1``, … over inputs, then outputs, so that no wire name can collide with a name that DSPy,
pydantic or Python claims. Types are real Python types: DSPy's parser of signature strings, which imports whatever module a
type name spells, never sees text from the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import dspy
from pydantic import ConfigDict, create_model

from worker.signatures.annotations import python_type
from worker.signatures.signature import Field, Signature

# DSPy's own functions are untyped.
_input: Callable[..., Any] = dspy.InputField
_output: Callable[..., Any] = dspy.OutputField


class _Deferred(dspy.Signature):  # type: ignore[metaclass]
    """"""  # noqa: D419 - DSPy takes the text of a class for instructions

    # Nobody makes instances of a signature class, so pydantic need not build validators: they are most of its cost.
    model_config = ConfigDict(defer_build=True)


_NO_EXTRAS: Mapping[str, str] = MappingProxyType({})


def field_name(index: int) -> str:
    """Return the internal name of a signature's field, counted over inputs, then outputs."""
    return f"f{index}"


def make_signature_class(
    signature: Signature, *, extra_outputs: Mapping[str, str] = _NO_EXTRAS
) -> type[dspy.Signature]:
    """Return a new DSPy signature class with the fields of a signature.

    Instructions and every ``desc`` are always set, in wire names: left empty, DSPy writes the internal names into the prompt.

    Args:
        signature: What the program takes and returns.
        extra_outputs: Internal name → description of text outputs of our own, put before the declared outputs; such as a
            chain of thought.
    """
    fields = dict(_fields(signature, extra_outputs))
    create: Callable[..., Any] = create_model
    made: type[dspy.Signature] = create(
        "DynamicSignature", __base__=_Deferred, __doc__=instructions_of(signature), **fields
    )
    return made


def instructions_of(signature: Signature) -> str:
    """Return what the prompt asks for: the description, else a sentence with the wire names."""
    if signature.description:
        return signature.description
    inputs, outputs = (_enumerate(side) for side in (signature.inputs, signature.outputs))
    return f"Given the fields {inputs}, produce the fields {outputs}."


def _fields(signature: Signature, extra_outputs: Mapping[str, str]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for index, one in enumerate(signature.inputs):
        yield field_name(index), (_annotation(one), _named(_input(desc=_desc(one)), one.name))
    for name, description in extra_outputs.items():
        yield name, (str, _output(desc=description))
    for index, one in enumerate(signature.outputs, start=len(signature.inputs)):
        yield field_name(index), (_annotation(one), _named(_output(desc=_desc(one)), one.name))


def _named(info: Any, name: str) -> Any:
    """Give DSPy the prefix that it would else make from the internal name, at a quarter of the cost of the class."""
    info.json_schema_extra["prefix"] = f"{name}:"
    return info


def _annotation(one: Field) -> Any:
    plain = python_type(one.type)
    return plain if one.required or plain is Any else plain | None


def _desc(one: Field) -> str:
    return one.description or one.name


def _enumerate(fields: tuple[Field, ...]) -> str:
    return ", ".join(f"`{one.name}`" for one in fields)
