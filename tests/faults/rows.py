"""A look into the workers' store from outside: which jobs a process holds, which are done."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import asyncpg


@dataclass(frozen=True, slots=True)
class Row:
    """What the suite wants to know of a job's row.

    Attributes:
        job_key: The job's message id.
        state: ``running``, ``waiting`` or ``done``.
        owner: The worker's id, with its process id in it; empty where nobody holds it.
        crashes: Claims that ended without an outcome.
        outcome: ``success``, ``error`` or None.
        is_stop_noted: Whether the owner has written down that it was told to stop.
    """

    job_key: str
    state: str
    owner: str
    crashes: int
    outcome: str | None
    is_stop_noted: bool = False

    @property
    def number(self) -> int | None:
        """The job's number; None for a row that is of no job of the load."""
        name = self.job_key.removeprefix("m")
        return int(name) if name.isdecimal() else None

    def is_held_by(self, pid: int) -> bool:
        """Whether this process runs the job."""
        return self.state == "running" and f"-{pid}-" in self.owner


_COLUMNS = "SELECT job_key, state, owner, crashes, outcome, stop_noted_ms IS NOT NULL FROM jobs WHERE namespace = "


async def read_rows(store_url: str, namespace: str, *, only_running: bool = False) -> list[Row]:
    """Return the jobs' rows of a namespace."""
    condition = " AND state = 'running'" if only_running else ""
    if store_url.startswith("sqlite:///"):
        found = await asyncio.to_thread(_read_sqlite, store_url.removeprefix("sqlite:///"), condition, namespace)
    else:
        found = await _read_postgres(store_url, condition, namespace)
    return [
        Row(key, state, owner or "", crashes, outcome, is_stop_noted=bool(is_noted))
        for key, state, owner, crashes, outcome, is_noted in found
    ]


def _read_sqlite(path: str, condition: str, namespace: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(f"{_COLUMNS}?{condition}", (namespace,)).fetchall()


async def _read_postgres(url: str, condition: str, namespace: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(f"{_COLUMNS}$1{condition}", namespace))
    finally:
        await connection.close()
