"""The parts that JSON Schemas are written with.

AsyncAPI's own schema format is JSON Schema draft 7, so what several schemas share is a component of the document and no
``$defs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
ANY: Schema = {}
PERCENT: Schema = {"type": "integer", "minimum": 0, "maximum": 100}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
SECONDS: Schema = {"type": "number", "description": "A duration in seconds."}
TIME: Schema = {"type": "number", "description": "Unix time in seconds."}


def to(kind: str, name: str) -> Schema:
    """Refer to a component of the document; ``kind`` is ``schemas``, ``messages`` or another of its groups."""
    return {"$ref": f"#/components/{kind}/{name}"}


def text(description: str) -> Schema:
    """Return the schema of a described string."""
    return {"type": "string", "description": description}


def or_null(schema: Schema) -> Schema:
    """Let null pass too."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def record(members: Mapping[str, Schema], *, required: Sequence[str] | None = None) -> Schema:
    """Return the schema of an object.

    More members may come with later versions, so it is left open.

    Args:
        members: Name → schema.
        required: Names that must be there; by default all.
    """
    names = list(members if required is None else required)
    return {"type": "object", "properties": dict(members), **({"required": names} if names else {})}


def or_pairs(schema: Schema) -> Schema:
    """Let a list of pairs pass too: that is how Elixir writes keyword lists, an empty one as ``[]``."""
    return {"anyOf": [schema, to("schemas", "pairs")]}
