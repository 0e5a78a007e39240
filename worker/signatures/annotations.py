"""Turn a type into the Python annotation that a DSPy signature carries."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Field as PydanticField

from worker.signatures.nodes import Member, Type

# Validators are built at the first use, if ever: the values are checked by this package.
_CONFIG = ConfigDict(extra="forbid", strict=True, defer_build=True)
_PLAIN: dict[str, Any] = {"string": str, "integer": int, "float": float, "boolean": bool, "any": Any}


def python_type(node: Type) -> Any:
    """Return a real Python type: ``str``, ``list[int]``, ``dict[str, Any]``, ``Literal["a", "b"]`` or ``int | None``.

    Choices among floats or containers have no ``Literal``; there it is the type they are chosen from. Constraints are not
    in the annotation: the values are checked by this package, not by DSPy. A nested object is a pydantic model whose
    fields are ``f0``, ``f1``, …, each with its wire name as alias, so that no name can be one that pydantic claims.
    """
    plain = _literal(node) if node.choices is not None else _open(node)
    return plain | None if node.nullable and plain is not Any else plain


def _literal(node: Type) -> Any:
    choices = node.choices or ()
    if all(isinstance(choice, (str, int)) for choice in choices):
        return Literal[tuple(choices)]
    return _open(node)


def _open(node: Type) -> Any:
    if node.items is not None:
        return list[python_type(node.items)]  # type: ignore[misc]
    if node.key is not None and node.values is not None:
        return dict[python_type(node.key), python_type(node.values)]  # type: ignore[misc]
    if node.properties:
        return _model(node)
    if node.members:
        return reduce(or_, map(python_type, node.members))
    return _PLAIN[node.kind]


def _model(node: Type) -> type[BaseModel]:
    fields: dict[str, Any] = {f"f{index}": _model_field(member) for index, member in enumerate(node.properties)}
    return create_model("Object", __config__=_CONFIG, **fields)


def _model_field(member: Member) -> tuple[Any, Any]:
    plain = python_type(member.type)
    info: dict[str, Any] = {"alias": member.name, "description": member.description or None}
    if member.required:
        return plain, PydanticField(**info)
    return (plain if plain is Any else plain | None), PydanticField(default=member.default, **info)
