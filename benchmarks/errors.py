"""What can go wrong with a measurement."""

from __future__ import annotations


class MeasurementError(Exception):
    """A figure could not be measured; the message says why."""
