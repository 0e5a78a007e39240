"""A bounded cache in this process that counts its hits and misses.

Nothing in it is ever stale: keys are fingerprints and revisions, and what they name does not change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from worker.telemetry import CACHE

V = TypeVar("V")

_UNIT_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    weight: int


class CountedCache(Generic[V]):
    """Keeps the values used last.

    Args:
        name: For the metrics.
        size: Values kept, if each comes from at most 8 KiB; a larger one counts as so many more.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._entries: LRUCache[Hashable, _Entry[V]] = LRUCache(size, getsizeof=lambda entry: entry.weight)
        # The store's writer thread describes programs too.
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0
        self._hit_metric = CACHE.labels(name, "hit")
        self._miss_metric = CACHE.labels(name, "miss")

    def get(self, key: Hashable, make: Callable[[], V], *, size_bytes: int = 0) -> V:
        """Return the value of a key, made at its first use.

        Args:
            key: What it is found by.
            make: Makes it.
            size_bytes: Size of what it is made from, so that a few huge definitions cannot fill the memory.
        """
        with self._lock:
            found = self._entries.get(key)
        if found is not None:
            self.hits += 1
            self._hit_metric.inc()
            return found.value
        self.misses += 1
        self._miss_metric.inc()
        entry = _Entry(make(), 1 + size_bytes // _UNIT_BYTES)
        if entry.weight <= self._entries.maxsize:
            with self._lock:
                self._entries[key] = entry
        return entry.value

    def to_json(self) -> dict[str, int]:
        """Return the figures for ``get_stats``."""
        return {"hits": self.hits, "misses": self.misses, "entries": len(self._entries)}
