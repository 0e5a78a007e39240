"""The two engines behind one seam: ``write`` and ``read`` run a plain function in one transaction.

The function takes a SQLAlchemy Core ``Connection`` and is the same on both engines. Writes that wait together share a
transaction, so a function may be run twice: plainly first, and by itself where a neighbour failed.

===================================  ======================================================
module                               its one responsibility
===================================  ======================================================
`worker.store.database.sqlite`       one file, one writer thread
`worker.store.database.postgres`     a server, several connections, locks in one order
`worker.store.database.batches`      which writes share a transaction, and who is told what
`worker.store.database.faults`       what the engines' errors mean
`worker.store.database.place`        whether SQLite's file is still where it was
`worker.store.database.libpq`        what the options of a PostgreSQL URL mean
===================================  ======================================================
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from worker.store.database.batches import Order, T, Work
from worker.store.database.postgres import PostgresDatabase
from worker.store.database.sqlite import SqliteDatabase

__all__ = ["Database", "PostgresDatabase", "SqliteDatabase", "connect"]


class Database(Protocol):
    """A place to run transactions."""

    async def write(self, work: Work[T], *, order: Order | None = None) -> T:
        """Run ``work`` in a write transaction: all of it is stored, or, if it raises, nothing.

        Args:
            work: What to do. Another write may share its transaction, and it may be run again.
            order: Names the only row that it locks; None where it may lock others as well.
        """

    async def read(self, work: Work[T]) -> T:
        """Run ``work``, which only reads, beside the writes."""

    async def close(self) -> None:
        """Finish what runs and give all connections back, within `CLOSE_SECONDS`; what takes longer is cut off."""


def connect(url: str, *, lock_seconds: float = 5.0) -> Database:
    """Make the database that a URL names; the first connection is made by its first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql://…``, with or without the driver's name in it.
        lock_seconds: How long a write may wait for another one before it gives up. Every call is answered within three
            times as long, if only by an error.

    Raises:
        ValueError: The URL is none that the store understands.
        StoreMisfitError: The driver for PostgreSQL is not installed, or the SQLite file cannot be made.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("The store's URL must look like sqlite:///path or postgresql://user@host/database") from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        return SqliteDatabase(parsed, lock_seconds=lock_seconds)
    if backend in ("postgresql", "postgres"):
        return PostgresDatabase(parsed, lock_seconds=lock_seconds)
    raise ValueError(f"The store can be sqlite:///path or postgresql://…, not {backend}://")
