"""Programs: one row per id, a fresh revision with every create and replace.

Create and delete store the job's outcome in the same transaction. They lock the job's row first and the program's row
second, always, so two of them never wait for each other; and where the job is done already they change nothing, so a
late second run of a job cannot undo what came after its first.

The functions take a connection inside a transaction and are meant for `worker.store.store.Store` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Connection, bindparam, delete, func, null, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from worker.errors import ProgramExistsError
from worker.store.records import NewProgram, ProgramRecord
from worker.store.schema import NowMs, programs

_RECORD = (
    programs.c.program_id,
    programs.c.revision,
    programs.c.version,
    programs.c.fingerprint,
    programs.c.definition,
    programs.c.created_ms,
    programs.c.executions,
    programs.c.last_executed_ms,
)
_OF_TENANT = (programs.c.namespace == bindparam("b_namespace"), programs.c.tenant == bindparam("b_tenant"))
_KEY = (*_OF_TENANT, programs.c.program_id == bindparam("b_program_id"))


def _make_insert(insert: Any) -> Any:
    """Build the insert with one dialect's ``insert``; both dialects spell it alike."""
    return (
        insert(programs)
        .values(
            namespace=bindparam("namespace"),
            tenant=bindparam("tenant"),
            program_id=bindparam("program_id"),
            revision=bindparam("revision"),
            version=1,
            fingerprint=bindparam("fingerprint"),
            definition=bindparam("definition"),
            kind=bindparam("kind"),
            created_ms=NowMs(),
            executions=0,
            last_executed_ms=null(),
        )
        .on_conflict_do_nothing()
        .returning(*_RECORD)
    )


_INSERT = {"sqlite": _make_insert(sqlite.insert), "postgresql": _make_insert(postgresql.insert)}
_READ = select(*_RECORD).where(*_KEY)
_LOCK = _READ.with_for_update()
_LIST = (
    select(*_RECORD)
    .where(*_OF_TENANT)
    .order_by(programs.c.created_ms, programs.c.program_id)
    .limit(bindparam("b_limit", type_=BigInteger))
    .offset(bindparam("b_offset", type_=BigInteger))
)
_SIZES = _LIST.with_only_columns(func.length(programs.c.definition))
_COUNT = select(func.count()).select_from(programs).where(*_OF_TENANT)
_COUNT_KINDS = select(programs.c.kind, func.count()).where(*_OF_TENANT).group_by(programs.c.kind)
_DELETE_ALL = delete(programs).where(*_OF_TENANT)
_REPLACE = (
    update(programs)
    .where(*_KEY)
    .values(
        revision=bindparam("b_revision"),
        version=programs.c.version + 1,
        fingerprint=bindparam("b_fingerprint"),
        definition=bindparam("b_definition"),
        kind=bindparam("b_kind"),
    )
    .returning(*_RECORD)
)
_DELETE = delete(programs).where(*_KEY)
_ADD_EXECUTIONS = (
    update(programs)
    .where(*_KEY)
    .values(
        executions=programs.c.executions + bindparam("b_executions", type_=BigInteger),
        last_executed_ms=NowMs(),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which programs of a tenant to list, the oldest first.

    Attributes:
        tenant: Whose.
        limit: At most so many.
        offset: Without the first ones.
        most_characters: They end with the one whose definition goes over that many, all together; None for no bound.
    """

    tenant: str
    limit: int
    offset: int
    most_characters: int | None


def read_program(connection: Connection, program_id: str, *, namespace: str, tenant: str) -> ProgramRecord | None:
    """Return one program, or None."""
    row = connection.execute(_READ, _key(program_id, namespace=namespace, tenant=tenant)).one_or_none()
    return None if row is None else _to_record(row)


def list_programs(connection: Connection, page: Page, *, namespace: str) -> list[ProgramRecord]:
    """Return a page of a tenant's programs; a definition that is beyond it is not read into memory."""
    values = {"b_namespace": namespace, "b_tenant": page.tenant, "b_limit": page.limit, "b_offset": page.offset}
    if page.most_characters is not None:
        sizes = connection.execute(_SIZES, values).scalars()
        values["b_limit"] = _count_until(sizes, most=page.most_characters)
    rows = connection.execute(_LIST, values)
    return [_to_record(row) for row in rows]


def count_programs(connection: Connection, *, namespace: str, tenant: str) -> int:
    """Return how many programs a tenant has."""
    return connection.execute(_COUNT, {"b_namespace": namespace, "b_tenant": tenant}).scalar_one()


def count_kinds(connection: Connection, *, namespace: str, tenant: str) -> dict[str, int]:
    """Return kind → number of a tenant's programs."""
    rows = connection.execute(_COUNT_KINDS, {"b_namespace": namespace, "b_tenant": tenant})
    return {kind: number for kind, number in rows}  # noqa: C416 - a Row is no pair


def remove_all_programs(connection: Connection, *, namespace: str, tenant: str) -> int:
    """Delete a tenant's programs and return how many they were."""
    return connection.execute(_DELETE_ALL, {"b_namespace": namespace, "b_tenant": tenant}).rowcount


def put_program(connection: Connection, new: NewProgram, *, namespace: str) -> ProgramRecord:
    """Insert a program, find the same one under its id, or replace another one.

    Raises:
        ProgramExistsError: Another definition has the id, and it may not be replaced.
    """
    while True:
        inserted = _insert(connection, new, namespace=namespace)
        if inserted is not None:
            return inserted
        row = connection.execute(_LOCK, _key(new.program_id, namespace=namespace, tenant=new.tenant)).one_or_none()
        # PostgreSQL: deleted by another transaction between the two statements; then it can be inserted.
        if row is not None:
            break
    if row.fingerprint == new.fingerprint:
        return _to_record(row)
    if not new.replace:
        raise ProgramExistsError(new.program_id)
    return _replace(connection, new, namespace=namespace)


def remove_program(connection: Connection, program_id: str, *, namespace: str, tenant: str) -> bool:
    """Delete a program and say whether there was one."""
    return connection.execute(_DELETE, _key(program_id, namespace=namespace, tenant=tenant)).rowcount > 0


def add_executions(connection: Connection, counts: Mapping[tuple[str, str], int], *, namespace: str) -> None:
    """Add runs to many programs, (tenant, program id) → runs.

    In one order everywhere, so that two workers never wait for each other.
    """
    batch = [
        _key(program_id, namespace=namespace, tenant=tenant) | {"b_executions": count}
        for (tenant, program_id), count in sorted(counts.items())
    ]
    if batch:
        connection.execute(_ADD_EXECUTIONS, batch)


def _count_until(sizes: Iterable[int], *, most: int) -> int:
    """Return how many come up to and with the one that goes over the bound."""
    count = total = 0
    for size in sizes:
        count += 1
        total += size
        if total > most:
            break
    return count


def _insert(connection: Connection, new: NewProgram, *, namespace: str) -> ProgramRecord | None:
    values = {
        "namespace": namespace,
        "tenant": new.tenant,
        "program_id": new.program_id,
        "revision": str(uuid4()),
        "fingerprint": new.fingerprint,
        "definition": new.definition,
        "kind": new.kind,
    }
    row = connection.execute(_INSERT[connection.dialect.name], values).one_or_none()
    return None if row is None else replace(_to_record(row), is_new=True)


def _replace(connection: Connection, new: NewProgram, *, namespace: str) -> ProgramRecord:
    values = _key(new.program_id, namespace=namespace, tenant=new.tenant)
    values |= {"b_revision": str(uuid4()), "b_fingerprint": new.fingerprint, "b_definition": new.definition}
    values |= {"b_kind": new.kind}
    return replace(_to_record(connection.execute(_REPLACE, values).one()), is_new=True)


def _to_record(row: Row[*tuple[Any, ...]]) -> ProgramRecord:
    return ProgramRecord(*row)


def _key(program_id: str, *, namespace: str, tenant: str) -> dict[str, Any]:
    # Nothing is ever stored under an id with a NUL, and PostgreSQL fails on one.
    return {"b_namespace": namespace, "b_tenant": tenant, "b_program_id": program_id.replace("\x00", "\ufffd")}
