"""Bodies made to hurt, by name: each is answered with its code, soon, and without an LM call."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tests.unit.signatures.test_hostile import HOSTILE

MAX_SECONDS = 0.1
_AT_THE_DOOR = frozenset({"invalid_json", "body_too_large"})
# Python takes a minute to write the digits.
_WRITTEN_BELOW = frozenset({"a huge number"})


@dataclass(frozen=True, slots=True)
class Hostile:
    """One hostile body.

    Attributes:
        name: What is hostile about it.
        body: As published to the queue of execute.
        codes: What it may be answered with.
    """

    name: str
    body: bytes
    codes: frozenset[str]


def hostile_bodies() -> list[Hostile]:
    """Return the bodies: every hostile definition of the unit tests, and those that never become one."""
    definitions = [
        Hostile(name, _job(definition), _AT_THE_DOOR | {code})
        for name, (definition, code) in HOSTILE.items()
        if name not in _WRITTEN_BELOW
    ]
    return definitions + [Hostile(name, body, frozenset({code})) for name, (body, code) in _bodies().items()]


def _bodies() -> dict[str, tuple[bytes, str]]:
    around = b'{"args": {"fallback": "never", "inputs": {"q": "a"}, "signature": %s}}'
    doubled = b'{"inputs": [{"name": "q"}], "inputs": [], "outputs": [{"name": "x"}]}'
    return {
        "17 MiB": (around % (b'"' + b"a" * (17 << 20) + b'"'), "body_too_large"),
        "8 MB of one text": (around % (b'"' + b"a" * 8_000_000 + b'"'), "invalid_signature"),
        "8 MB of metadata": (
            around % (b'{"inputs": [], "metadata": "' + b"a" * 8_000_000 + b'", "x": }'),
            "invalid_json",
        ),
        "200,000 brackets": (around % (b"[" * 100_000 + b"]" * 100_000), "invalid_json"),
        "200,000 open brackets": (b"[" * 200_000, "invalid_json"),
        "8 MB of empty objects": (around % (b"[" + b"{}," * 2_600_000 + b"{}]"), "invalid_json"),
        "NaN": (around % b"NaN", "invalid_json"),
        "lone surrogates": (around % rb'"a\ud800 -> b"', "invalid_json"),
        "a duplicate key": (around % doubled, "invalid_json"),
        "Latin-1": (around % "größe -> b".encode("latin-1"), "invalid_json"),
        "a huge number": (around % (b"9" * 3_000_000), "invalid_json"),
        "a type name that is a module": (around % b'"a: os.path -> b: subprocess.Popen"', "unknown_type"),
        "code as a type": (around % b"\"a -> b: __import__('os').system('id')\"", "unknown_type"),
        "a marker as a name": (
            around % b'{"inputs":[{"name":"[[ ## a ## ]]"}],"outputs":[{"name":"x"}]}',
            "invalid_field_name",
        ),
        "a reference": (
            around % b'{"inputs":[{"name":"q"}],"outputs":[{"name":"x","type":{"$ref":"#/x"}}]}',
            "unknown_type",
        ),
    }


def _job(definition: object) -> bytes:
    """Write a job around a definition, as deep and as long as that may be."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        args = {"signature": definition, "inputs": {"q": "a"}, "fallback": "never"}
        return json.dumps({"args": args}).encode()
    finally:
        sys.setrecursionlimit(limit)
