"""What the options of a PostgreSQL URL mean: libpq's names, for URLs are copied from other programs' settings.

asyncpg takes most of them only in a DSN of its own, where it reads certificates anew for each connection and finds those
in ``~/.postgresql`` as libpq does. What it does not know is ``sslrootcert=system``, the CAs that this machine trusts.
Names and forms were checked before: `worker.urls.check_store_url`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import URL

from worker.urls import POSTGRES_TLS_OPTIONS, TRUSTED_SYSTEM, check_store_options

_ALPN = ["postgresql"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is connected to.

    Attributes:
        url: For SQLAlchemy, with the options that it passes on as they are.
        tls: libpq's TLS options, name → value.
        server_settings: PostgreSQL's own, name → value.
        connect_seconds: For one attempt; None where the URL does not say.
        is_pooled: Whether each transaction may be on another connection of the server, as behind PgBouncer in transaction
            mode: no statement may be prepared for longer, and the start of a connection may set nothing.
    """

    url: URL
    tls: Mapping[str, str] = field(default_factory=dict)
    server_settings: Mapping[str, str] = field(default_factory=dict)
    connect_seconds: float | None = None
    is_pooled: bool = False

    async def connect(self, **arguments: Any) -> Any:
        """Open a connection with asyncpg.

        Args:
            arguments: Of ``asyncpg.connect``, except for TLS.
        """
        import asyncpg

        return await asyncpg.connect(**arguments, **_tls_arguments(self.tls))  # type: ignore[no-untyped-call]


def read_options(url: URL) -> Options:
    """Read the options of a PostgreSQL URL.

    Raises:
        ValueError: One is not supported, or has no such value; the message names it, and repeats no value.
    """
    given = {
        name: value if isinstance(value, str) else value[-1] for name, value in url.query.items() if name != "host"
    }
    check_store_options(given)
    if "ssl" in given:
        given.setdefault("sslmode", given.pop("ssl"))
    settings: dict[str, str] = {name: given.pop(name) for name in ("application_name", "options") if name in given}
    tls = {name: given.pop(name) for name in POSTGRES_TLS_OPTIONS if name in given}
    seconds = float(given.pop("connect_timeout", 0))
    is_pooled = given.pop("pgbouncer", "") == "true"
    passed = {name: value for name, value in url.query.items() if name == "host" or name in given}
    return Options(
        url=url.set(drivername="postgresql+asyncpg", query=passed),
        tls=tls,
        server_settings=settings,
        connect_seconds=seconds if seconds > 0 else None,
        is_pooled=is_pooled,
    )


def _tls_arguments(tls: Mapping[str, str]) -> dict[str, Any]:
    if tls.get("sslrootcert") == TRUSTED_SYSTEM:
        return {"ssl": _trusting_system(tls)}
    return {"dsn": f"postgresql:///?{urlencode(tls)}"} if tls else {}


def _trusting_system(tls: Mapping[str, str]) -> ssl.SSLContext:
    """Make a context that verifies certificate and host name by this machine's CAs."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(_ALPN)
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"))
    return context
