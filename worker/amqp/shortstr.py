"""Make pamqp read any message that the broker accepts.

pamqp decodes strings as strict UTF-8. RabbitMQ does not care, so one ``correlation_id`` in Latin-1 ends the reader of
the whole connection before our code sees the message; the broker delivers it again, and the loop takes every
neighbour's delivery count with it. `install` replaces the decoders concerned, in this one place, by total ones:

- a string that is not UTF-8 becomes an `Unreadable`, which remembers its bytes and is written back as it came;
- a header table that cannot be decoded at all (nested beyond Python's stack) becomes one that cannot be encoded, so
  the message is refused and never copied;
- a time beyond Python's calendar becomes None.

It also writes floats of a header table with 64 bits: pamqp writes 32, which would change a header on its way
through a copy.

See Also:
    docs/RELIABILITY.md; pamqp.decode and pamqp.encode, whose functions look one another up by module global.
"""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

from pamqp import decode, encode

_LENGTH = struct.Struct(">I")
_pamqp_timestamp = decode.timestamp
_pamqp_string = encode._string
_pamqp_table_value = encode.encode_table_value


class Unreadable(str):
    """Text with a backslash escape for each byte that is not UTF-8.

    Attributes:
        raw: The bytes as they came; what goes out again where this is published.
    """

    __slots__ = ("raw",)

    raw: bytes

    def __new__(cls, raw: bytes) -> Unreadable:
        """Escape what is not UTF-8."""
        text = super().__new__(cls, raw.decode("utf-8", "backslashreplace"))
        text.raw = raw
        return text

    def __str__(self) -> str:
        return self


class UndecodableTable:
    """Stands for all headers of a table that cannot be decoded; nothing encodes it."""


UNDECODABLE = UndecodableTable()


def install() -> None:
    """Replace pamqp's decoders and encoders; doing it again changes nothing."""
    decoders: dict[str, Any] = {"shortstr": _short_string, "longstr": _long_string, "table": _table}
    decode.METHODS.update(decoders | {"timestamp": _timestamp})
    decode.TABLE_MAPPING.update({b"S": _long_string, b"F": _nested_table, b"T": _timestamp})
    encode._string = _write_string
    encode.encode_table_value = _write_table_value


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return Unreadable(raw)


def _short_string(value: bytes) -> tuple[int, str]:
    end = value[0] + 1
    return end, _text(value[1:end])


def _long_string(value: bytes) -> tuple[int, str]:
    end = _LENGTH.unpack_from(value)[0] + 4
    return end, _text(value[4:end])


def _timestamp(value: bytes) -> tuple[int, dt.datetime | None]:
    try:
        return _pamqp_timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return _nested_table(value)
    except (ValueError, RecursionError, IndexError, OverflowError, struct.error):
        return _LENGTH.unpack_from(value)[0] + 4, {"headers": UNDECODABLE}


def _nested_table(value: bytes) -> tuple[int, dict[str, Any]]:
    end = _LENGTH.unpack_from(value)[0] + 4
    offset, table = 4, {}
    while offset < end:
        consumed, name = _short_string(value[offset : offset + 256])
        offset += consumed
        consumed, member = decode.embedded_value(value[offset:end])
        offset += consumed
        table[name] = member
    return end, table


def _write_string(encoder: struct.Struct, value: str) -> bytes:
    if isinstance(value, Unreadable):
        return encoder.pack(len(value.raw)) + value.raw
    return _pamqp_string(encoder, value)


def _write_table_value(value: Any) -> bytes:
    if isinstance(value, float):
        return b"d" + encode.double(value)
    return _pamqp_table_value(value)
