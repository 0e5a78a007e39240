"""A bounded cache in this process that counts its hits and misses.

Nothing in it is ever stale: keys are fingerprints and revisions, and what they name does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

from worker.telemetry import CACHE

V = TypeVar("V")


class CountedCache(Generic[V]):
    """Keeps the values used last.

    Args:
        name: For the metrics.
        size: Values kept.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._entries: LRUCache[Hashable, V] = LRUCache(size)
        self.hits = 0
        self.misses = 0
        self._hit_metric = CACHE.labels(name, "hit")
        self._miss_metric = CACHE.labels(name, "miss")

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of a key, made at its first use."""
        found = self._entries.get(key)
        if found is not None:
            self.hits += 1
            self._hit_metric.inc()
            return found
        self.misses += 1
        self._miss_metric.inc()
        made = self._entries[key] = make()
        return made

    def to_json(self) -> dict[str, int]:
        """Return the figures for ``get_stats``."""
        return {"hits": self.hits, "misses": self.misses, "entries": len(self._entries)}
