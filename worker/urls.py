"""What the URLs of broker and store must be before anything connects with them.

No sentence repeats a part of a URL: a password that is not escaped may stand anywhere in it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from yarl import URL

_UNVERIFIED = "no_verify_ssl"
_UNREADABLE = "cannot be read: its port is a number, and signs such as @ : / # in a password are written as %40 …"
# As SQLAlchemy reads it: a password may hold any sign but @.
_LOGIN = re.compile(r"^[^:/@]*(:[^@]*)?@")

TRUSTED_SYSTEM = "system"
"""As ``sslrootcert``: the CAs that this machine trusts."""

POSTGRES_TLS_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
_FILES = frozenset(POSTGRES_TLS_OPTIONS[1:])
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_MODES_WITH_FILES = ("require", "verify-ca", "verify-full")
# What libpq and asyncpg take in a URL, and the store does: the options that it reads itself, and those that it passes on.
_POSTGRES_OPTIONS = (
    *(*POSTGRES_TLS_OPTIONS, "connect_timeout", "application_name", "options", "pgbouncer"),
    *("host", "port", "user", "password", "passfile", "service", "target_session_attrs", "krbsrvname", "gsslib"),
)
# They may be named in a refusal: no part of a password reads like one of them.
_REFUSED_OPTIONS = frozenset(
    (
        *("channel_binding", "client_encoding", "command_timeout", "dbname", "fallback_application_name", "gssencmode"),
        *("gssdelegation", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"),
        *("load_balance_hosts", "prepared_statement_cache_size", "replication", "require_auth"),
        *("requirepeer", "requiressl", "sslcertmode", "sslcompression", "sslcrldir", "sslnegotiation", "sslpassword"),
        *("sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "statement_cache_size"),
        *("tcp_user_timeout", "prepareThreshold", "schema", "currentSchema", "pool_timeout", "connection_limit"),
    )
)


def check_broker_url(url: str) -> None:
    """Refuse a URL that is no broker's, or that would hand a password to whoever listens.

    Raises:
        ValueError: Another scheme, unreadable, no look at the certificate, or user ``guest`` off this machine.
    """
    _check_scheme(url, ("amqp", "amqps"))
    try:
        URL(url)
        address = urlsplit(url)
        _ = address.port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    check_verified(url)
    user = unquote(address.username or "") or "guest"
    if user == "guest" and not is_loopback(address.hostname or ""):
        raise ValueError(
            "user `guest` is refused off this machine: make a broker user of the worker's own, e.g. with "
            "deploy/rabbitmq/make_users.py"
        )


def check_verified(url: str) -> None:
    """Refuse a URL with the parameter that keeps aiormq from verifying the broker's certificate, whatever its value.

    Raises:
        ValueError: It has the parameter, in some spelling.
    """
    names = {name.strip().replace("-", "_").lower() for name in URL(url).query}
    if _UNVERIFIED in names:
        raise ValueError(
            f"`{_UNVERIFIED}` is refused: name the broker's CA in DSPEX_AMQP_CA_FILE (client: ssl_context)"
        )


def check_store_url(url: str) -> None:
    """Refuse a URL that is no store's.

    Raises:
        ValueError: Another scheme, a port that is none, or an option of PostgreSQL that the store does not know.
    """
    _check_scheme(url, ("sqlite", "postgresql", "postgres"))
    scheme, _, rest = url.partition("://")
    if scheme.startswith("sqlite"):
        return
    try:
        address = urlsplit(f"//{_LOGIN.sub('', rest)}")
        _ = address.port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    given = dict(parse_qsl(address.query, keep_blank_values=True))
    check_store_options(given)
    for name in _FILES & given.keys():
        if given[name] != TRUSTED_SYSTEM and not os.access(given[name], os.R_OK):
            raise ValueError(f"`{name}` names no file that this user may read")


def check_store_options(given: Mapping[str, str]) -> None:
    """Refuse what the query of a PostgreSQL URL must not hold.

    Args:
        given: Option → value.

    Raises:
        ValueError: An option that is not supported, or a value that it cannot have; no value is repeated.
    """
    known = ", ".join(_POSTGRES_OPTIONS)
    if unknown := sorted(given.keys() - {*_POSTGRES_OPTIONS, "ssl"}):
        named = next((f"`{name}`" for name in unknown if name in _REFUSED_OPTIONS), "one of its options")
        raise ValueError(f"{named} is not supported: leave it out; supported are {known}")
    if not re.fullmatch(r"\d{1,6}", given.get("connect_timeout", "0")):
        raise ValueError("`connect_timeout` must be a number of seconds")
    if given.get("pgbouncer", "true") not in ("true", "false"):
        raise ValueError("`pgbouncer` must be true or false")
    _check_tls_options(given)


def _check_tls_options(given: Mapping[str, str]) -> None:
    """Refuse files that libpq would not look at: who names a CA wants the server verified."""
    mode = given.get("sslmode", given.get("ssl"))
    if mode is not None and mode not in _TLS_MODES:
        raise ValueError(f"`sslmode` must be one of {', '.join(_TLS_MODES)}")
    if ("sslcert" in given) != ("sslkey" in given):
        raise ValueError("`sslcert` and `sslkey` go together")
    if given.get("sslrootcert") == TRUSTED_SYSTEM:
        if mode not in (None, "verify-full"):
            raise ValueError(
                "`sslrootcert=system` needs `sslmode=verify-full`: anybody can get a certificate from such a CA"
            )
        if "sslcrl" in given:
            raise ValueError("`sslcrl` does not go with `sslrootcert=system`")
        return
    idle = [name for name in POSTGRES_TLS_OPTIONS[1:] if name in given]
    if idle and mode not in _TLS_MODES_WITH_FILES:
        raise ValueError(f"`{idle[0]}` needs `sslmode=verify-full` (or verify-ca, require), else nothing is verified")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or not host


def _check_scheme(url: str, schemes: Sequence[str]) -> None:
    if not re.match(rf"({'|'.join(schemes)})(\+\w+)?://.", url):
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
