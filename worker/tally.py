"""What one worker has done since it started, for ``get_stats``."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of this process.

    Attributes:
        commands: Jobs ended, of any kind.
        errors: Those that ended with an error.
        in_flight: Jobs being handled now.
        runs: Program type (``dynamic``, ``legacy``, ``fallback``) → runs that brought outputs.
    """

    commands: int = 0
    errors: int = 0
    in_flight: int = 0
    runs: collections.Counter[str] = field(default_factory=collections.Counter)

    def reset(self) -> None:
        """Begin to count commands and errors anew."""
        self.commands = self.errors = 0
