"""The tables, the store's clock, and making both ready.

Every key starts with the namespace, so deployments can share a database. ``jobs.claimed_ms`` is when the row was last
claimed; why the claim needs it is told in `worker.store.claim`. ``jobs.not_before_ms`` is set while a job waits for its
next try after LM trouble: until then nobody claims it. ``jobs.unpriced_lm_calls`` counts calls without a known
price, so that ``cost_usd`` can add up what is known without pretending that the rest was free. ``jobs.stop_noted_ms`` is
when the worker that runs the job was told to stop, and ``jobs.stops`` how often such a worker died with the job in hand.
``jobs.stored_ms`` is when the outcome was stored. ``programs.kind`` is the creator's own word for what the program is, to
count by. ``workers.status`` is JSON: what a worker says about itself with its heartbeat.

See Also:
    worker.store.inbox: the states of a job's row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from worker.store.availability import StoreMisfitError

SCHEMA_VERSION = 4
"""Raised with every change of a table. Earlier ones are brought up to it; a store of any other version is refused.

Workers that were started before go on: what is added may be left out by who does not know it.
"""

_SCHEMA_LOCK = 0x64737065
"""Any number that no other program on the server uses for its advisory locks."""

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

programs = Table(
    "programs",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("program_id", Text, primary_key=True),
    Column("revision", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("executions", BigInteger, nullable=False),
    Column("last_executed_ms", BigInteger),
)

workers = Table(
    "workers",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("worker_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("version", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default="{}"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("job_key", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("claim_token", Text, nullable=False),
    Column("claimed_ms", BigInteger, nullable=False),
    Column("not_before_ms", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("stops", Integer, nullable=False, server_default="0"),
    Column("stop_noted_ms", BigInteger),
    Column("lm_calls", Integer, nullable=False),
    Column("unpriced_lm_calls", Integer, nullable=False),
    Column("cost_usd", Float(53)),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("outcome", Text),
    Column("code", Text),
    Column("reply", LargeBinary),
    Column("settlement", Text),
    Column("stored_ms", BigInteger),
    Column("settled_ms", BigInteger),
    Column("expires_ms", BigInteger, nullable=False),
    Index("jobs_by_expiry", "namespace", "expires_ms"),
)

flags = Table(
    "flags",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

cancellations = Table(
    "cancellations",
    metadata,
    Column("namespace", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("job_key", Text, primary_key=True),
    Column("requested_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index("cancellations_by_expiry", "namespace", "expires_ms"),
)

# Version → what it lacks of the next one. Version 1's programs.kind is read once from what the left hand wrote first into
# each definition.
_STEPS = {
    1: (
        "ALTER TABLE programs ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
        """UPDATE programs SET kind = CASE
            WHEN definition LIKE '{"kind":"dynamic"%' THEN 'dynamic'
            WHEN definition LIKE '{"kind":"fallback"%' THEN 'fallback'
            ELSE 'legacy' END""",
    ),
    2: ("ALTER TABLE jobs ADD COLUMN not_before_ms BIGINT",),
    3: (
        "ALTER TABLE workers ADD COLUMN version TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE workers ADD COLUMN status TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE jobs ADD COLUMN stops INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN stop_noted_ms BIGINT",
        "ALTER TABLE jobs ADD COLUMN stored_ms BIGINT",
    ),
}


class NowMs(FunctionElement[int]):
    """The store's clock in unix milliseconds, the same through one statement.

    On PostgreSQL it is the start of the statement, not ``clock_timestamp()``: it must not be later than the statement's
    view of the data, also where the statement waited for a row lock.
    """

    type = BigInteger()
    inherit_cache = True


@compiles(NowMs, "sqlite")
def _now_on_sqlite(_element: NowMs, _compiler: SQLCompiler, **_options: Any) -> str:
    # unixepoch('subsec') is NULL, without an error, on SQLite 3.40.
    return "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)"


@compiles(NowMs, "postgresql")
def _now_on_postgresql(_element: NowMs, _compiler: SQLCompiler, **_options: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)"


def prepare_schema(connection: Connection) -> None:
    """Create what is missing, bring an older store up to date, safe against other workers doing the same.

    On SQLite the transaction is already the only writer; PostgreSQL takes an advisory lock until the commit.

    Raises:
        StoreMisfitError: The tables were made by another version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
    metadata.create_all(connection)
    found = connection.execute(select(schema_version.c.version)).scalar()
    if found is None:
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
    elif found in _STEPS:
        _bring_up_to_date(connection, found)
    elif found != SCHEMA_VERSION:
        raise StoreMisfitError(
            f"The store has schema version {found} and this worker needs {SCHEMA_VERSION}: "
            "use the worker version that made it, or name another DSPEX_STORE_URL."
        )


def _bring_up_to_date(connection: Connection, found: int) -> None:
    for version in range(found, SCHEMA_VERSION):
        for statement in _STEPS[version]:
            connection.execute(text(statement))
    connection.execute(update(schema_version).values(version=SCHEMA_VERSION))
