"""When a work queue was last known to be empty: what is delivered after that was published after it.

A queue without ready messages at the start of consuming is empty then. From then on the broker pushes at once what it has
for a consumer with free places; so where none was delivered from one look to the next, though there was a place, the queue
was empty at the earlier one. A loop that stood still makes the looks rarer, and what is known older, never wrong.
"""

from __future__ import annotations


class Emptiness:
    """What one lane knows of its queue.

    Attributes:
        known_ms: Unix milliseconds at which the queue was last known to be empty; None where it never was.
    """

    def __init__(self) -> None:
        self.known_ms: int | None = None
        self._looked_ms: int | None = None

    def begin(self, empty_ms: int | None) -> None:
        """Begin anew, with the time at which the queue was empty, or None where messages are ready in it."""
        self.known_ms = empty_ms
        self._looked_ms = None

    def note_delivery(self) -> None:
        """Note that there was a message: until the next look nothing more is known."""
        self._looked_ms = None

    def look(self, now_ms: int, *, has_room: bool) -> None:
        """Look again.

        Args:
            now_ms: The time.
            has_room: Whether the broker could send more messages.
        """
        if self._looked_ms is not None and has_room:
            self.known_ms = self._looked_ms
        self._looked_ms = now_ms if has_room else None
