"""The time in what is published: headers of copies, replies that the broker's side writes."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return unix milliseconds."""
    return time.time_ns() // 1_000_000
