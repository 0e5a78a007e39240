"""Breaks everything on purpose and counts what is left: ``python -m tests.faults``, or ``make chaos``."""

from __future__ import annotations

import sys
from pathlib import Path

# The private brokers and databases live there, in files that also run before any package is installed.
_DEPLOY = str(Path(__file__).resolve().parents[2] / "deploy")
if _DEPLOY not in sys.path:
    sys.path.append(_DEPLOY)
