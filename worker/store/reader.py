"""Read a deployment's programs, flags and workers without being one of its workers: no row of its own, nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url

from worker.store import flags, programs, workers
from worker.store.database import Database, connect
from worker.store.records import ProgramRecord


class StoreReader:
    """Programs, flags and workers of a namespace.

    Every method may raise `StoreUnavailableError`.
    """

    def __init__(self, database: Database, *, namespace: str) -> None:
        """Use `open_reader`."""
        self._database = database
        self._namespace = namespace

    async def get_program(self, program_id: str, *, tenant: str = "") -> ProgramRecord | None:
        """Return a program, or None."""
        return await self._database.read(
            lambda connection: programs.read_program(connection, program_id, namespace=self._namespace, tenant=tenant)
        )

    async def get_flags(self) -> dict[str, str]:
        """Return name → value of the flags that were set."""
        return await self._database.read(lambda connection: flags.read_flags(connection, namespace=self._namespace))

    async def list_workers(self, *, lease_seconds: float) -> list[workers.WorkerRecord]:
        """Return the workers, and those that were lost a short while ago.

        Args:
            lease_seconds: How old a heartbeat may be before its worker counts as lost.
        """
        lease_ms = round(lease_seconds * 1_000)
        return await self._database.read(
            lambda connection: workers.read_workers(connection, namespace=self._namespace, lease_ms=lease_ms)
        )


@asynccontextmanager
async def open_reader(url: str, *, namespace: str) -> AsyncIterator[StoreReader | None]:
    """Open the store of a deployment; None for a SQLite file that is not there, which opening it would make.

    Raises:
        ValueError: The URL is none that the store understands.
        StoreUnavailableError: The driver for PostgreSQL is not installed.
    """
    if not _is_there(url):
        yield None
        return
    database = connect(url)
    try:
        yield StoreReader(database, namespace=namespace)
    finally:
        await database.close()


def _is_there(url: str) -> bool:
    parsed = make_url(url)
    return not parsed.drivername.startswith("sqlite") or Path(parsed.database or "").exists()
