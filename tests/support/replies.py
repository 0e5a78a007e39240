"""Replies that are sent again: equal to the byte, but for the mark of a stored one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from worker.message import HEADER_STORED, Reply

_MARK = re.compile(rb',"stored_ms":\d+}\Z')


def without_mark(body: bytes) -> bytes:
    """Return a reply's body as it was sent the first time."""
    return _MARK.sub(b"}", body)


def unmarked_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return a stored reply's parsed body as it was sent the first time.

    Raises:
        KeyError: It has no mark.
    """
    assert body["stored_ms"] > 0
    return {name: value for name, value in body.items() if name != "stored_ms"}


def unmarked(reply: Reply | None) -> Reply | None:
    """Return a stored reply as it was sent the first time.

    Raises:
        AssertionError: It has no mark, or its header and its body tell different times.
    """
    assert reply is not None
    stored_ms = json.loads(reply.body)["stored_ms"]
    headers = dict(reply.headers)
    assert headers.pop(HEADER_STORED) == stored_ms
    return replace(reply, body=without_mark(reply.body), headers=headers)
