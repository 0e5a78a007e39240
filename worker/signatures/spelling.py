"""Write a type back in the one canonical spelling, which the parser reads to the same type again."""

from __future__ import annotations

from worker.signatures.nodes import Member, Type, item_type, pair_types

_PLAIN = ("minimum", "maximum", "exclusive_minimum", "exclusive_maximum", "multiple_of", "pattern", "format")
_UNITS = {"list": "items", "dict": "properties"}

Spelling = str | dict[str, object]


def spell(node: Type) -> Spelling:
    """Return the spelling of a type with its constraints: text where it has none at any depth, else a schema object."""
    constraints = spell_constraints(node)
    base = spell_base(node)
    if not constraints:
        return base
    return {"type": base, **constraints} if isinstance(base, str) else {**base, **constraints}


def spell_base(node: Type) -> Spelling:
    """Return the spelling of a type without its own constraints; those of its children stay in it."""
    if node.kind == "list":
        return _spell_list(node)
    if node.kind == "dict":
        return _spell_dict(node)
    if node.kind == "object":
        return _spell_object(node)
    if node.kind == "union":
        return _spell_union(node)
    return node.kind if node.kind == "any" else f"{node.kind}{_mark(node)}"


def spell_constraints(node: Type) -> dict[str, object]:
    """Return the type's own constraints, canonical name → value."""
    found: dict[str, object] = {name: getattr(node, name) for name in _PLAIN if getattr(node, name) is not None}
    unit = _UNITS.get(node.kind, "length")
    if node.min_length is not None:
        found[f"min_{unit}"] = node.min_length
    if node.max_length is not None:
        found[f"max_{unit}"] = node.max_length
    if node.is_unique:
        found["unique_items"] = True
    if node.choices is not None:
        found["enum"] = [*node.choices, None] if node.kind == "any" and node.nullable else list(node.choices)
    return found


def _spell_list(node: Type) -> Spelling:
    items = spell(item_type(node))
    if isinstance(items, str):
        return f"list<{items}>{_mark(node)}"
    return {"type": f"list{_mark(node)}", "items": items}


def _spell_dict(node: Type) -> Spelling:
    key, values = map(spell, pair_types(node))
    if isinstance(key, str) and isinstance(values, str):
        return f"dict<{key}, {values}>{_mark(node)}"
    if isinstance(key, str):
        return {"type": f"dict<{key}, any>{_mark(node)}", "additionalProperties": values}
    pair: dict[str, object] = {"dict": [key, values]}
    return {"anyOf": [pair, "null"]} if node.nullable else pair


def _spell_object(node: Type) -> Spelling:
    return {
        "type": f"object{_mark(node)}",
        "properties": {member.name: _spell_member(member) for member in node.properties},
        "required": [member.name for member in node.properties if member.required],
    }


def _spell_member(member: Member) -> Spelling:
    written = spell(member.type)
    more: dict[str, object] = {"description": member.description} if member.description else {}
    if member.has_default:
        more["default"] = member.default
    if not more:
        return written
    return {"type": written, **more} if isinstance(written, str) else {**written, **more}


def _spell_union(node: Type) -> Spelling:
    members = [spell(member) for member in node.members]
    texts = [member for member in members if isinstance(member, str)]
    if len(texts) == len(members):
        return f"union<{' | '.join(texts)}>{_mark(node)}"
    return {"anyOf": [*members, "null"] if node.nullable else members}


def _mark(node: Type) -> str:
    return "?" if node.nullable else ""
