"""The store: reached, writable, of this worker's version, on a disk that keeps it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, make_url, select
from sqlalchemy.exc import ArgumentError

from worker.amqp.connection import mask_url
from worker.doctor.check import Check, error, ok, skipped, warning
from worker.doctor.management import judge_clock
from worker.settings import Settings
from worker.store import StoreUnavailableError
from worker.store.database import Database, connect
from worker.store.schema import SCHEMA_VERSION, NowMs, flags, schema_version

LOW_DISK_BYTES = 1024**3
EMPTY_DISK_BYTES = 100 * 1024**2
MAX_CLOCK_SECONDS = 1.0
_LOCK_SECONDS = 3.0
_MOUNTS = Path("/proc/mounts")
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.")
_CHECKS = ("store schema", "store writes", "clock of the store")


class _RollbackError(Exception):
    """Ends a write that must leave nothing."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What one read of the store told: its version, or None where nothing is in it, and its clock."""

    version: int | None
    now_ms: int
    asked_ms: float


async def check_store(settings: Settings) -> list[Check]:
    """Look at the store without changing it; a SQLite file that is not there yet is not made."""
    url = settings.resolved_store_url
    path = sqlite_path(url)
    if path is None:
        return [*await _check_database(url), skipped("store file", "The store is a server, which has its own disk")]
    if await asyncio.to_thread(path.exists):
        return [*await _check_database(url), *await asyncio.to_thread(check_file, path)]
    return await asyncio.to_thread(_check_folder, path)


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite store, or None where the store is a server."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    return Path(parsed.database or "") if parsed.drivername.partition("+")[0] == "sqlite" else None


def check_file(path: Path) -> list[Check]:
    """Check who may read a SQLite file, the file system below it, and the space that is left."""
    found = path.stat()
    others = stat.S_IMODE(found.st_mode) & 0o077
    checks = [_check_file_system(path), _check_disk(path)]
    if others:
        mend = f"chmod 600 {path}: replies and programs are in it"
        return [warning("store file", f"Others than its owner may use {path} ({oct(others)})", mend), *checks]
    if found.st_uid != os.geteuid():
        mend = f"Run this as the user of the worker, or give {path} to that user"
        return [warning("store file", f"{path} belongs to another user", mend), *checks]
    return [ok("store file", f"Only its owner may use {path}"), *checks]


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that a path is on.

    Args:
        path: Absolute.
        mounts: The text of ``/proc/mounts``.
    """
    best, found = -1, "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].encode().decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found


async def _check_database(url: str) -> list[Check]:
    try:
        database = connect(url, lock_seconds=_LOCK_SECONDS)
    except (ValueError, StoreUnavailableError) as fault:
        return _unreachable(fault)
    try:
        sight = await database.read(_look)
        checks = [ok("store", f"{mask_url(url)} is reached"), _judge_version(sight)]
        if sight.version is not None:
            checks.append(await _check_writes(database))
        return [*checks, _judge_clock(sight)]
    except StoreUnavailableError as fault:
        return _unreachable(fault)
    finally:
        await database.close()


def _look(connection: Connection) -> _Sight:
    asked_ms = time.time() * 1_000
    now_ms = int(connection.execute(select(NowMs())).scalar_one())
    middle_ms = (asked_ms + time.time() * 1_000) / 2
    if not inspect(connection).has_table(schema_version.name):
        return _Sight(None, now_ms, middle_ms)
    version = connection.execute(select(schema_version.c.version)).scalar()
    return _Sight(version, now_ms, middle_ms)


async def _check_writes(database: Database) -> Check:
    """Write, and take it back."""

    def write(connection: Connection) -> None:
        connection.execute(insert(flags).values(namespace=f"doctor/{secrets.token_hex(8)}", name="", value=""))
        raise _RollbackError

    try:
        await database.write(write)
    except _RollbackError:
        return ok("store writes", "The store takes writes")
    except StoreUnavailableError as fault:
        return error("store writes", str(fault), "Do what the sentence says, or name another DSPEX_STORE_URL")
    return ok("store writes", "The store takes writes")


def _judge_version(sight: _Sight) -> Check:
    name = "store schema"
    if sight.version is None:
        return warning(name, "The store has no tables yet", "Start a worker: the first one makes them")
    if sight.version < SCHEMA_VERSION:
        mend = "Start a worker of this version: it brings the store up to date; older workers cannot use it afterwards"
        return warning(name, f"The store has version {sight.version}, this worker {SCHEMA_VERSION}", mend)
    if sight.version > SCHEMA_VERSION:
        mend = "Use the worker version that made the store, or name another DSPEX_STORE_URL"
        return error(name, f"The store has version {sight.version}, this worker knows {SCHEMA_VERSION}", mend)
    return ok(name, f"Version {SCHEMA_VERSION}")


def _judge_clock(sight: _Sight) -> Check:
    ahead_seconds = (sight.now_ms - sight.asked_ms) / 1_000
    return judge_clock("clock of the store", ahead_seconds, limit_seconds=MAX_CLOCK_SECONDS)


def _unreachable(fault: Exception) -> list[Check]:
    mend = "Do what the sentence says; until then no job is run"
    return [
        error("store", str(fault), mend),
        *(skipped(name, "The store cannot be reached") for name in _CHECKS),
    ]


def _check_folder(path: Path) -> list[Check]:
    folder = next((each for each in path.absolute().parents if each.exists()), Path("/"))
    if not os.access(folder, os.W_OK | os.X_OK):
        mend = f"Give the worker's user write access to {folder}, or name another DSPEX_STORE_URL"
        return [error("store", f"{path} does not exist and cannot be made in {folder}", mend)]
    mend = "Start a worker: the first one makes it"
    return [warning("store", f"{path} does not exist yet", mend), _check_file_system(folder), _check_disk(folder)]


def _check_file_system(path: Path) -> Check:
    name = "store file system"
    if not _MOUNTS.exists():
        return skipped(name, "This system has no /proc/mounts")
    found = file_system_of(path.resolve(), _MOUNTS.read_text(encoding="utf-8", errors="replace"))
    if found.startswith(_NETWORK_FILE_SYSTEMS):
        mend = "Put the file on a local disk, or use PostgreSQL: locks and the write-ahead log need shared memory"
        return warning(name, f"The file is on a network file system ({found})", mend)
    return ok(name, f"{found}, which is local")


def _check_disk(path: Path) -> Check:
    free = shutil.disk_usage(path).free
    sentence = f"{free / 1024**3:.1f} GiB are free"
    if free < EMPTY_DISK_BYTES:
        return error("store disk", sentence, "Free space: a full disk stops all jobs")
    if free < LOW_DISK_BYTES:
        return warning("store disk", sentence, "Free space before the disk is full")
    return ok("store disk", sentence)
