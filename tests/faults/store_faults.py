"""Takes the workers' store away from them, and lets one look into it from outside.

====================  ==============================================================  ==============================
engine                outage                                                          stall
====================  ==============================================================  ==============================
SQLite                another process holds the write lock for longer than a write     the same, for less
                      waits; every second one is then killed with -9
PostgreSQL            the server is killed with -9; every second time stopped in       all its processes are frozen;
                      order                                                           every second time the table of
                                                                                      jobs is locked
====================  ==============================================================  ==============================
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, closing
from typing import Any, Protocol

import asyncpg
from local_services import PostgresServer

from tests.faults.jobs import message_id_of
from tests.faults.stage import Stage

_LOCK = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60) as connection:
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("INSERT INTO flags VALUES ('nobody', 'unfinished', 'yes')")
    print("locked", flush=True)
    sys.stdin.read()
    connection.execute("ROLLBACK")
"""
# A row in no state that there is.
_CORRUPT = """
INSERT INTO jobs (namespace, tenant, job_key, generation, body_hash, state, owner, claim_token, claimed_ms, attempts,
                  crashes, lm_calls, unpriced_lm_calls, first_seen_ms, expires_ms)
VALUES ('{namespace}', '', '{job_key}', 0, '', 'mangled', '', '', 0, 0, 0, 0, 0, 0, 9000000000000)
"""
_FIRST_CLAIMS = "SELECT job_key, first_seen_ms FROM jobs WHERE namespace = '{namespace}'"


class StoreFaults(Protocol):
    """What can be done to the store of a stage."""

    def outage(self, number: int) -> AbstractAsyncContextManager[None]:
        """Keep the store away inside the block; odd numbers end it in another way than even ones."""

    def stall(self, number: int) -> AbstractAsyncContextManager[None]:
        """Let the store answer nothing inside the block."""

    async def corrupt(self, number: int) -> None:
        """Give a job, by its number, a row that cannot be read."""

    async def first_claims(self) -> dict[str, int]:
        """Return the message id of each job that has a row → unix milliseconds of its first claim."""


def store_faults(stage: Stage) -> StoreFaults:
    """Return the faults of a stage's engine."""
    if stage.postgres is not None:
        return _PostgresFaults(stage.postgres, stage.namespace)
    return _SqliteFaults(stage.store_url.removeprefix("sqlite:///"), stage.namespace)


class _SqliteFaults:
    def __init__(self, path: str, namespace: str) -> None:
        self._path = path
        self._namespace = namespace

    def outage(self, number: int) -> AbstractAsyncContextManager[None]:
        return self._locked(is_killed=bool(number % 2))

    def stall(self, number: int) -> AbstractAsyncContextManager[None]:
        return self._locked(is_killed=bool(number % 2))

    async def corrupt(self, number: int) -> None:
        await asyncio.to_thread(
            self._execute, _CORRUPT.format(namespace=self._namespace, job_key=message_id_of(number))
        )

    async def first_claims(self) -> dict[str, int]:
        return dict(await asyncio.to_thread(self._execute, _FIRST_CLAIMS.format(namespace=self._namespace)))

    def _execute(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=60)) as connection:
            return connection.execute(statement).fetchall()

    @contextlib.asynccontextmanager
    async def _locked(self, *, is_killed: bool) -> AsyncIterator[None]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", _LOCK, self._path, stdin=pipe, stdout=pipe)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"locked\n"
            yield
        finally:
            if is_killed:
                process.kill()
            process.stdin.close()
            await process.wait()


class _PostgresFaults:
    def __init__(self, server: PostgresServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace

    @contextlib.asynccontextmanager
    async def outage(self, number: int) -> AsyncIterator[None]:
        await asyncio.to_thread(self._server.stop if number % 2 else self._server.kill)
        try:
            yield
        finally:
            await asyncio.to_thread(self._server.start)
            await asyncio.to_thread(self._server.wait_ready)

    def stall(self, number: int) -> AbstractAsyncContextManager[None]:
        return self._table_locked() if number % 2 else self._frozen()

    async def corrupt(self, number: int) -> None:
        await self._fetch(_CORRUPT.format(namespace=self._namespace, job_key=message_id_of(number)))

    async def first_claims(self) -> dict[str, int]:
        rows = await self._fetch(_FIRST_CLAIMS.format(namespace=self._namespace))
        return {row["job_key"]: row["first_seen_ms"] for row in rows}

    async def _fetch(self, statement: str) -> list[Any]:
        async with self._connection() as connection:
            return list(await connection.fetch(statement))

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self._server.url)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def _table_locked(self) -> AsyncIterator[None]:
        async with self._connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            yield

    @contextlib.asynccontextmanager
    async def _frozen(self) -> AsyncIterator[None]:
        self._server.pause()
        try:
            yield
        finally:
            self._server.resume()
