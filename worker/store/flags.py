"""Flags: settings of a whole deployment that change while it runs.

A row exists only for a flag that was set; all others have the start value of the worker that reads them. What the
names and values mean is not the store's business.

The functions take a connection inside a transaction and are meant for `worker.store.store.Store` alone.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.store.schema import flags

READ = select(flags.c.name, flags.c.value).where(flags.c.namespace == bindparam("b_namespace"))
"""Every flag of a namespace; a claim reads it together with the cancel mark."""

_WRITES = {
    name: insert(flags)
    .values(namespace=bindparam("namespace"), name=bindparam("name"), value=bindparam("value"))
    .on_conflict_do_update(index_elements=[flags.c.namespace, flags.c.name], set_={"value": bindparam("value")})
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


def read_flags(connection: Connection, *, namespace: str) -> dict[str, str]:
    """Return name → value of the flags that were set."""
    return {row.name: row.value for row in connection.execute(READ, {"b_namespace": namespace})}


def write_flag(connection: Connection, name: str, value: str, *, namespace: str) -> None:
    """Set a flag; every claim that comes after the commit sees it."""
    values = {"namespace": namespace, "name": name, "value": value}
    connection.execute(_WRITES[connection.dialect.name], values)
