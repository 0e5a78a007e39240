"""A store that workers of the last version made is brought up to date, with its rows, and those workers go on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from tests.integration.store.rows import NAMESPACE, TTL_MS, OpenStore, success, ticket
from worker.doctor.check import Check
from worker.doctor.store import check_store
from worker.settings import Settings, load
from worker.store import Spent, Verdict
from worker.store.database import Database, connect
from worker.store.schema import SCHEMA_VERSION

# Version 2, as its workers made it.
_TABLES = (
    "CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version))",
    """CREATE TABLE programs (namespace TEXT NOT NULL, tenant TEXT NOT NULL, program_id TEXT NOT NULL,
        revision TEXT NOT NULL, version INTEGER NOT NULL, fingerprint TEXT NOT NULL, definition TEXT NOT NULL,
        kind TEXT NOT NULL, created_ms BIGINT NOT NULL, executions BIGINT NOT NULL, last_executed_ms BIGINT,
        PRIMARY KEY (namespace, tenant, program_id))""",
    """CREATE TABLE workers (namespace TEXT NOT NULL, worker_id TEXT NOT NULL, host TEXT NOT NULL,
        started_ms BIGINT NOT NULL, seen_ms BIGINT NOT NULL, PRIMARY KEY (namespace, worker_id))""",
    """CREATE TABLE jobs (namespace TEXT NOT NULL, tenant TEXT NOT NULL, job_key TEXT NOT NULL,
        generation INTEGER NOT NULL, body_hash TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL,
        claim_token TEXT NOT NULL, claimed_ms BIGINT NOT NULL, attempts INTEGER NOT NULL, crashes INTEGER NOT NULL,
        lm_calls INTEGER NOT NULL, unpriced_lm_calls INTEGER NOT NULL, cost_usd FLOAT(53),
        first_seen_ms BIGINT NOT NULL, outcome TEXT, code TEXT, reply {bytes}, settlement TEXT, settled_ms BIGINT,
        expires_ms BIGINT NOT NULL, PRIMARY KEY (namespace, tenant, job_key))""",
    "CREATE INDEX jobs_by_expiry ON jobs (namespace, expires_ms)",
    "CREATE TABLE flags (namespace TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (namespace, name))",
    """CREATE TABLE cancellations (namespace TEXT NOT NULL, tenant TEXT NOT NULL, job_key TEXT NOT NULL,
        requested_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, PRIMARY KEY (namespace, tenant, job_key))""",
    "CREATE INDEX cancellations_by_expiry ON cancellations (namespace, expires_ms)",
    "INSERT INTO schema_version VALUES (2)",
)
# As the workers of version 2 write and read it.
_INSERT = """INSERT INTO jobs (namespace, tenant, job_key, generation, body_hash, state, owner, claim_token, claimed_ms,
    attempts, crashes, lm_calls, unpriced_lm_calls, cost_usd, first_seen_ms, expires_ms, outcome, reply, settlement)
    VALUES (:namespace, '', :key, 0, 'hash', :state, '', '', 1, 2, 0, 3, 0, 0.5, 1, 9000000000000, :outcome, :reply, '')"""
_RELEASE = "UPDATE jobs SET state = 'waiting', owner = '', claim_token = '' WHERE job_key = :key RETURNING attempts"


async def insert(database: Database, key: str, *, state: str = "waiting") -> None:
    """Add a job's row as a worker of version 2 does."""
    outcome, reply = ("success", b"result") if state == "done" else (None, None)
    row = {"namespace": NAMESPACE, "key": key, "state": state, "outcome": outcome, "reply": reply}
    await database.write(lambda connection: connection.execute(text(_INSERT), row))


async def run(database: Database, statement: str) -> None:
    """Run a statement that returns nothing."""
    await database.write(lambda connection: connection.execute(text(statement)))


@pytest.fixture
async def old(store_url: str) -> AsyncIterator[Database]:
    """A store of version 2 with a job that waits and one that is done."""
    binary = "BLOB" if store_url.startswith("sqlite") else "BYTEA"
    database = connect(store_url)
    for statement in _TABLES:
        await run(database, statement.replace("{bytes}", binary))
    await insert(database, "waiting")
    await insert(database, "done", state="done")
    yield database
    await database.close()


async def version_of(database: Database) -> int:
    """Return the version that a store says it has."""
    found: int = await database.read(lambda c: c.execute(text("SELECT version FROM schema_version")).scalar_one())
    return found


async def test_a_store_of_version_2_keeps_its_rows(old: Database, open_store: OpenStore) -> None:
    """What waited may be claimed at once, what is done is repeated, and the new column is there to use."""
    store = await open_store()
    waiting = await store.claim(ticket("waiting"))
    done = await store.claim(ticket("done"))
    await store.release(ticket("waiting"), token=waiting.token, spent=Spent(), is_attempt=True, pause_ms=TTL_MS)
    again = await store.claim(ticket("waiting"))

    assert (waiting.verdict, waiting.attempts, waiting.lm_calls, waiting.cost_usd) == (Verdict.MINE, 2, 3, 0.5)
    assert (done.verdict, done.stored) == (Verdict.STORED, replace(success(), settlement=""))
    assert (again.verdict, again.attempts) == (Verdict.ELSEWHERE, 3)
    assert await version_of(old) == SCHEMA_VERSION


async def test_workers_of_version_2_go_on_beside_new_ones(old: Database, open_store: OpenStore) -> None:
    """They know nothing of the new column; the rows that they write and release can be claimed by the new ones."""
    store = await open_store()
    await insert(old, "theirs", state="running")
    row = {"key": "theirs"}
    attempts = await old.write(lambda connection: connection.execute(text(_RELEASE), row).scalar_one())

    claim = await store.claim(ticket("theirs"))

    assert (attempts, claim.verdict) == (2, Verdict.MINE)


async def test_eight_workers_bring_a_store_up_to_date_at_once(old: Database, open_store: OpenStore) -> None:
    """The column is added once."""
    stores = await asyncio.gather(*(open_store(worker_id=str(number)) for number in range(8)))

    verdicts = [(await store.claim(ticket("waiting"))).verdict for store in stores]

    assert verdicts == [Verdict.MINE] + [Verdict.ELSEWHERE] * 7


async def test_the_doctor_tells_a_store_of_version_2_from_one_that_is_up_to_date(
    old: Database, open_store: OpenStore, store_url: str
) -> None:
    """It brings nothing up to date itself."""
    settings = load({"DSPEX_STORE_URL": store_url})
    before = await _schema_of(settings)
    found = await version_of(old)
    await open_store()
    after = await _schema_of(settings)

    assert found == 2
    assert (before.verdict, after.verdict) == ("warning", "ok")


async def _schema_of(settings: Settings) -> Check:
    [check] = [check for check in await check_store(settings) if check.name == "store schema"]
    return check
