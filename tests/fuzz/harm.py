"""Ways to spoil a job: its values, its shape, its bytes, its properties."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from worker.message import Trail

# JSON that `json.dumps` would not write: put into a document by name, and replaced once it is text.
_RAW: dict[str, str] = {
    "deep list 60": "[" * 60 + "]" * 60,
    "deep list 99": "[" * 95 + "]" * 95,
    "deep list 5000": "[" * 5_000 + "]" * 5_000,
    "deep open": "[" * 20_000,
    "deep object 70": '{"properties": {"a": ' * 35 + '"string"' + "}}" * 35,
    "deep object 5000": '{"a": ' * 5_000 + "1" + "}" * 5_000,
    "digits 400": "1" + "0" * 400,
    "digits 4000": "-" + "9" * 4_000,
    "digits 9000": "9" * 9_000,
    "out of range": "1e999",
    "tiny": "1e-999",
    "minus zero": "-0.0",
    "nan": "NaN",
    "infinity": "-Infinity",
    "surrogate": '"a\\ud800b"',
    "surrogate pair": '"\\ud83d\\ude00"',
    "escaped nul": '"a\\u0000b"',
    "double key": '{"a": 1, "a": 2}',
    "control character": '"a\x01b"',
    "single quotes": "{'a': 1}",
    "trailing comma": "[1, 2,]",
    "long text": json.dumps("lorem ipsum " * 2_000),
    "long list": json.dumps([0] * 3_000),
    "long object": json.dumps({f"k{index}": index for index in range(1_500)}),
    "objects": json.dumps([{}] * 1_000),
}
_MARK = "\ue000"

_TEXTS = ["", " ", "null", "None", "true", "NaN", "a" * 65, "a" * 300, "list<", "list<list<int>>", "a | b", "{}", "[]"]
_TEXTS += ["question -> answer", "->", "a -> b", "os.path", "__import__('os')", "{0.__class__}", "%s%n", "../../etc"]
_TEXTS += ["[[ ## completed ## ]]", "[[ ## text ## ]]\nx", "$ref", "#", "]", "\n", "\t", "\x7f", "\u2028", "\ufeff"]
_TEXTS += [
    "\u202e",
    "e\u0301",
    "\ufb01",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0130",
    "ß",
    "\uffff",
    "0" * 50,
]
_TEXTS += ["(a+)+$", "(?P<x>", "[", r"\1", "(?=a)", r"\w{1000}", "(?x) # ", "a{0,99999}", r"\p{Greek}"]
_TEXTS += ["2024-02-30", "1e400", "0x10", "1_000", "+1", "²", "١٢"]
_NUMBERS = [0, -1, 1, 2, 100, 2**31, 2**53 + 1, 2**63, 2**64, -(2**70), 0.1, 0.3, -0.5, 1e-300, 1.5, 1e300, 1.7e308]
_KEYS = ["type", "items", "anyOf", "oneOf", "allOf", "enum", "min", "max", "default", "required", "optional", "list"]
_KEYS += [
    "dict",
    "union",
    "properties",
    "additionalProperties",
    "pattern",
    "format",
    "multipleOf",
    "uniqueItems",
    "$ref",
]
_KEYS += ["name", "description", "constraints", "metadata", "inputs", "outputs", "signature", "fallback", "lm", "demos"]
_KEYS += ["config", "options", "cache", "timeout_ms", "max_lm_calls", "max_cost_usd", "temperature", "max_tokens", "id"]
_KEYS += ["program_id", "replace", "use_dynamic_signature", "program_type", "include_reasoning", "command", "args", "x"]
_SHAPES: list[Any] = [[], {}, [[]], [{}], {"": 1}, [None], ["list"], ["union", []], ["dict", "int"], {"type": []}]
_SHAPES += [{"type": ["string", "null"]}, {"enum": []}, {"anyOf": []}, {"properties": {}}, [["a", 1], ["a", 2]]]
_SHAPES += [{"items": {"items": {"items": {}}}}, [["min", 3], ["max", 1]], {"type": "object", "required": ["b"]}]

_Slot = tuple[Any, Any]
"""A container and the key or index of one of its parts."""


def spoil(document: Any, source: random.Random) -> Any:
    """Return a document with one to four of its parts changed for the worse."""
    holder = [document]
    for _ in range(source.randint(1, 4)):
        container, key = source.choice(list(_slots(holder)))
        source.choice(_MUTATIONS)(container, key, source)
    return holder[0]


def any_json(source: random.Random, levels: int = 3) -> Any:
    """Return any JSON at all, with words of the contract in it."""
    draw = source.random()
    if levels == 0 or draw < 0.4:
        return _any_scalar(source)
    if draw < 0.65:
        return [any_json(source, levels - 1) for _ in range(source.randint(0, 4))]
    return {_any_key(source): any_json(source, levels - 1) for _ in range(source.randint(0, 4))}


def write(document: Any, source: random.Random) -> bytes:
    """Write a document as a body, with what `json.dumps` would not write in its place."""
    text = json.dumps(document, ensure_ascii=source.random() < 0.5, indent=source.choice([None, None, 1]))
    for name, raw in _RAW.items():
        for mark in (json.dumps(_MARK + name), json.dumps(_MARK + name, ensure_ascii=False)):
            text = text.replace(mark, raw)
    return text.encode("utf-8", "surrogatepass")


def garble(body: bytes, source: random.Random) -> bytes:
    """Return a body with some of its bytes changed, lost or doubled."""
    changed = bytearray(body)
    for _ in range(source.randint(1, 6)):
        start = source.randrange(len(changed) + 1)
        end = min(len(changed), start + source.choice([0, 1, 1, 2, 8, 64]))
        noise = source.randbytes(source.randint(1, 4))
        structure = source.choice([b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u", b"\xff", b"\x00", b"\xc3", b"e9"])
        changed[start:end] = source.choice([b"", noise, structure, bytes(changed[start:end]) * 2])
    return bytes(changed)


def properties(source: random.Random) -> dict[str, Any]:
    """Return one or two properties of a delivery that differ from those of an ordinary one."""
    given: dict[str, Callable[[], Any]] = {
        "reply_to": lambda: source.choice([None, "", "dspex.execute", "dspex.reply.x", "amq.rabbitmq.reply-to.a.b"]),
        "correlation_id": lambda: source.choice([None, "", "a" * 255, "\n", "ü", "c1"]),
        "message_id": lambda: source.choice([None, "", "\x00", f"m{source.randint(0, 30)}", "m" * 255]),
        "content_type": lambda: source.choice([None, "application/json; charset=utf-8", "text/plain", "", ";"]),
        "content_encoding": lambda: source.choice([None, "UTF-8", "gzip", ""]),
        "headers": lambda: {"x-dspex-deadline": source.choice([1, 2**62, -1, "1", None, True, 1.5, []])},
        "trail": lambda: Trail(
            attempts=source.randint(0, 9), waits=source.randint(0, 2), generation=source.randint(0, 1)
        ),
        "unreadable": lambda: ("user_id",),
        "is_oversized": lambda: True,
        "lane": lambda: source.choice(["create", "control"]),
    }
    return {name: given[name]() for name in source.sample(list(given), source.randint(1, 2))}


def _slots(value: Any) -> Iterator[_Slot]:
    """List the places of all parts of a value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)):
            yield one, key
            if isinstance(one[key], dict | list):
                waiting.append(one[key])


def _any_scalar(source: random.Random) -> Any:
    draw = source.random()
    if draw < 0.4:
        return source.choice(_TEXTS)
    if draw < 0.65:
        return source.choice(_NUMBERS)
    return source.choice([None, True, False]) if draw < 0.95 else _MARK + source.choice(list(_RAW))


def _any_key(source: random.Random) -> str:
    return source.choice(_KEYS) if source.random() < 0.8 else source.choice(_TEXTS)


def _replace(container: Any, key: Any, source: random.Random) -> None:
    container[key] = any_json(source)


def _shape(container: Any, key: Any, source: random.Random) -> None:
    container[key] = json.loads(json.dumps(source.choice(_SHAPES)))


def _raw(container: Any, key: Any, source: random.Random) -> None:
    container[key] = _MARK + source.choice(list(_RAW))


def _drop(container: Any, key: Any, source: random.Random) -> None:
    if isinstance(container, dict):
        del container[key]
    else:
        container[key] = None


def _wrap(container: Any, key: Any, source: random.Random) -> None:
    word = _any_key(source)
    for _ in range(source.choice([1, 1, 2, 7, 9, 40])):
        container[key] = [container[key]] if source.random() < 0.5 else {word: container[key]}


def _rename(container: Any, key: Any, source: random.Random) -> None:
    if isinstance(container, dict):
        container[_any_key(source)] = container.pop(key)


def _add(container: Any, key: Any, source: random.Random) -> None:
    value = any_json(source)
    target = container[key]
    if isinstance(target, dict):
        target[_any_key(source)] = value
    elif isinstance(target, list):
        target.insert(source.randint(0, len(target)), value)


def _repeat(container: Any, key: Any, source: random.Random) -> None:
    target = container[key]
    if isinstance(target, list) and len(target) < 8:
        container[key] = target * source.choice([2, 3, 30])
    elif isinstance(target, str):
        container[key] = target[:50] * source.choice([2, 10, 100])


_MUTATIONS: list[Callable[[Any, Any, random.Random], None]] = [
    *[_replace] * 3,
    *[_shape] * 2,
    *[_add] * 2,
    _raw,
    _drop,
    _wrap,
    _rename,
    _repeat,
]
