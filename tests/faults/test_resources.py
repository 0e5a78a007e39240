"""The line through samples of memory, and the drift of descriptors."""

from __future__ import annotations

import os
from itertools import cycle

import pytest

from tests.faults.resources import Sample, Slope, drift


def test_a_steady_growth_is_found_under_noise() -> None:
    """2 MB an hour, looked at for an hour every 10 s, under 1 MB of noise."""
    noise = cycle((-0.5, 0.5, 0.2, -0.2))
    samples = [Sample(10.0 * turn, 100 + 2 * turn / 360 + next(noise), 10, 1) for turn in range(361)]
    slope = Slope.of(samples)

    assert slope.mb_per_hour == pytest.approx(2, abs=0.1)
    assert 0 < slope.error < 0.3


def test_one_more_connection_is_no_drift_of_many() -> None:
    """The middles of the first and the last quarter count, not single looks."""
    assert drift([10, 10, 30, 10, 11, 10, 11, 11]) <= 1
    assert drift(list(range(10, 30))) == 15


def test_a_sample_tells_of_a_process() -> None:
    """This one."""
    sample = Sample.of(os.getpid())

    assert sample.rss_mb > 1
    assert sample.descriptors > 0
