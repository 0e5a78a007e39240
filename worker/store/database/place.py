"""Whether the file that SQLite has open is still the one at its path.

A file that was moved, deleted or replaced stays open for the worker that had it: that worker would go on with rows that no
other one sees, and a job would be paid for by both. So a file that is not in its place is a store that is down, until it
is back.
"""

from __future__ import annotations

from pathlib import Path

from worker.store.availability import StoreUnavailableError

Identity = tuple[int, int]
"""Device and inode."""

_MISSING = "was moved or deleted while it was in use. Put it back, with its -wal file; or restart the workers, which make a new one"
_REPLACED = (
    "is another file than the one that this process has open. Put the first one back, with its -wal file; or restart the "
    "workers, which go on with the one that is there"
)


class Place:
    """The path of a store's file, and which file was there when it was opened first.

    May be used from any thread.

    Args:
        path: Need not exist yet.
    """

    def __init__(self, path: str) -> None:
        self._name = f"sqlite:///{path}"
        self._path = Path(path).absolute()
        self._opened: Identity | None = None

    @property
    def uri(self) -> str:
        """How SQLite is told the path: in a URI it can be told as well never to make the file (``mode=rw``)."""
        return self._path.as_uri()

    def check(self) -> None:
        """See to it that the file that was opened first is there; before that, anything may be.

        Costs one ``stat``, about 3 µs.

        Raises:
            StoreUnavailableError: It is not; the message says what to do.
        """
        if self._opened is not None:
            self._compare(_identity(self._path))

    def note_opened(self) -> None:
        """Remember, right after a connection was opened, which file that was; see that it is the first one.

        Raises:
            StoreUnavailableError: It is another one.
        """
        found = _identity(self._path)
        if self._opened is None:
            self._opened = found
        self._compare(found)

    def _compare(self, found: Identity | None) -> None:
        if found is None or found != self._opened:
            trouble = _MISSING if found is None else _REPLACED
            raise StoreUnavailableError(f"The store {self._name} cannot be used: the file {trouble}.")


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
