"""What the URLs of broker and store must be before anything connects with them.

No sentence repeats a part of a URL: a password that is not escaped may stand anywhere in it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from yarl import URL

_UNVERIFIED = "no_verify_ssl"
_UNREADABLE = "cannot be read: its port is a number, and signs such as @ : / # in a password are written as %40 …"
# As SQLAlchemy reads it: a password may hold any sign but @.
_LOGIN = re.compile(r"^[^:/@]*(:[^@]*)?@")


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
        ValueError: Another scheme, or a port that is none.
    """
    _check_scheme(url, ("sqlite", "postgresql", "postgres"))
    scheme, _, rest = url.partition("://")
    if scheme.startswith("sqlite"):
        return
    try:
        _ = urlsplit(f"//{_LOGIN.sub('', rest)}").port
    except ValueError:
        raise ValueError(_UNREADABLE) from None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or not host


def _check_scheme(url: str, schemes: Sequence[str]) -> None:
    if not re.match(rf"({'|'.join(schemes)})(\+\w+)?://.", url):
        raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
