"""Memory and descriptors of processes over time, and the straight line through them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

import psutil

_MB = 1024 * 1024
_HOUR_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process.

    Attributes:
        at: ``time.monotonic()``.
        rss_mb: Resident memory in MiB.
        descriptors: Open files, sockets and pipes.
        threads: How many.
    """

    at: float
    rss_mb: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """Look at a process now."""
        process = psutil.Process(pid)
        return cls(time.monotonic(), process.memory_info().rss / _MB, process.num_fds(), process.num_threads())


@dataclass(frozen=True, slots=True)
class Slope:
    """The line of least squares through samples.

    Attributes:
        mb_per_hour: How much memory grows.
        error: Half of the 95 % interval around it, as far as the samples were independent of each other.
    """

    mb_per_hour: float
    error: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Fit it; at least three samples."""
        hours = [sample.at / _HOUR_SECONDS for sample in samples]
        mean_hour = sum(hours) / len(hours)
        mean_mb = sum(sample.rss_mb for sample in samples) / len(samples)
        spread = sum((hour - mean_hour) ** 2 for hour in hours)
        slope = (
            sum((hour - mean_hour) * (sample.rss_mb - mean_mb) for hour, sample in zip(hours, samples, strict=True))
            / spread
        )
        left = sum(
            (sample.rss_mb - mean_mb - slope * (hour - mean_hour)) ** 2
            for hour, sample in zip(hours, samples, strict=True)
        )
        return cls(slope, 1.96 * math.sqrt(left / (len(samples) - 2) / spread))


def drift(counts: Sequence[int]) -> float:
    """Return by how much the middle of the last quarter is above that of the first."""
    quarter = max(1, len(counts) // 4)
    return median(counts[-quarter:]) - median(counts[:quarter])
