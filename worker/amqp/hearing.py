"""Tell when a worker has gone deaf: connected to the broker, and not consuming what it should."""

from __future__ import annotations

from collections.abc import Callable

DEAF_SECONDS = 300.0


class Hearing:
    """Measures how long a worker has been deaf.

    Who asks for `fault` or calls `listen` takes a sample; one good sample starts the time anew. A broker that is away
    and a pause on purpose are no deafness: starting again would mend neither.

    Args:
        is_deaf: Whether the broker is connected and something that should be consumed is not.
        clock: Seconds that never go back.
    """

    def __init__(self, is_deaf: Callable[[], bool], *, clock: Callable[[], float]) -> None:
        self._is_deaf = is_deaf
        self._clock = clock
        self._since: float | None = None

    async def listen(self) -> None:
        """Take a sample, so that the time counts where nobody asks."""
        self.fault()

    def fault(self) -> str | None:
        """Say what is wrong once the worker has been deaf for five minutes, or return None."""
        if not self._is_deaf():
            self._since = None
            return None
        if self._since is None:
            self._since = self._clock()
        seconds = self._clock() - self._since
        return f"connected and not consuming for {seconds:.0f} seconds" if seconds >= DEAF_SECONDS else None
