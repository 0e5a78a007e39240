"""The formats that a string may be asked to have, each with its check.

A text has a format as the RFC spells it, since that is what a JSON Schema with the same word means: a date-time and a time
have an offset, a URI has a scheme.

See Also:
    RFC 3339 (date, date-time, time), RFC 9562 (uuid), RFC 3986 (uri), RFC 4291 (ipv6); an email is what HTML's
    ``<input type="email">`` takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from urllib.parse import urlsplit

MAX_FORMAT_CHARACTERS = 8_192
"""No text of a format is longer; it bounds the work of a check."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII | re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE | re.ASCII)
_URI = re.compile(r"[a-z][a-z0-9+.-]*:(?:[\w.~:/?#\[\]@!$&'()*+,;=-]|%[0-9a-f]{2})+", re.IGNORECASE | re.ASCII)


def has_format(text: str, name: str) -> bool:
    """Say whether a text has a format; ``name`` is one of ``FORMATS``."""
    return len(text) <= MAX_FORMAT_CHARACTERS and FORMATS[name](text)


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _is_read(date.fromisoformat, text)


def _is_time(text: str) -> bool:
    # fromisoformat reads six digits of a fraction; RFC 3339 allows any number.
    return _TIME.fullmatch(text) is not None and _is_read(datetime.fromisoformat, f"2000-01-01T{text[:8]}")


def _is_date_time(text: str) -> bool:
    return text[10:11] in ("T", "t") and _is_date(text[:10]) and _is_time(text[11:])


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def _is_email(text: str) -> bool:
    return len(text) <= 254 and _EMAIL.fullmatch(text) is not None


def _is_uri(text: str) -> bool:
    return _URI.fullmatch(text) is not None and text.count("#") <= 1 and _is_read(_read_port, text)


def _read_port(text: str) -> object:
    return urlsplit(text).port


def _is_ipv4(text: str) -> bool:
    return _is_read(IPv4Address, text)


def _is_ipv6(text: str) -> bool:
    return "%" not in text and _is_read(IPv6Address, text)


def _is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


FORMATS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "date": _is_date,
        "date-time": _is_date_time,
        "time": _is_time,
        "uuid": _is_uuid,
        "email": _is_email,
        "uri": _is_uri,
        "ipv4": _is_ipv4,
        "ipv6": _is_ipv6,
    }
)
"""Name of a format → whether a text has it."""
