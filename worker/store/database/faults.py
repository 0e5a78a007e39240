"""Faults of the engines: which mean that the store is away, and what to tell the operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from worker.store.availability import StoreMisfitError, StoreUnavailableError

_POOLER = (
    "Behind a pooler that pools by transaction, DSPEX_STORE_URL needs `pgbouncer=true`: docs/RELIABILITY.md, The store."
)

_HINTS = (
    ("prepared statement", _POOLER),
    ("startup parameter", _POOLER),
    ("root certificate file", "Name the PEM file of the server's CA as `sslrootcert` in DSPEX_STORE_URL."),
    ("locked", "Another process holds the write lock: look for a long transaction on the file, or use PostgreSQL."),
    ("lock timeout", "Another process holds a row: look for a long transaction in pg_stat_activity."),
    ("disk is full", "Free some space on the disk of the store."),
    ("No space left", "Free some space on the disk of the store."),
    ("readonly", "Give the worker's user write access to the file and its folder."),
    ("unable to open", "Check that the folder in DSPEX_STORE_URL exists and that the worker's user may write to it."),
    ("password", "Check user and password in DSPEX_STORE_URL."),
    ("does not exist", "Create the database named in DSPEX_STORE_URL, or correct the name."),
    ("Hostname mismatch", "Use the host name in DSPEX_STORE_URL that stands in the server's certificate."),
    ("IP address mismatch", "Use the host name in DSPEX_STORE_URL that stands in the server's certificate."),
    ("certificate has expired", "Renew the server's certificate, or its CA's."),
    ("CERTIFICATE_VERIFY_FAILED", "Name the PEM file of the server's CA as `sslrootcert` in DSPEX_STORE_URL."),
    (
        "requires a valid client certificate",
        "Name a certificate and its key as `sslcert` and `sslkey` in DSPEX_STORE_URL.",
    ),
    ("No such file", "Do the files of `sslrootcert`, `sslcert` and `sslkey` in DSPEX_STORE_URL, or its socket, exist?"),
    ("KEY_VALUES_MISMATCH", "`sslkey` in DSPEX_STORE_URL is not the key of `sslcert`."),
    ("rejected SSL upgrade", "The server speaks no TLS, and `sslmode` in DSPEX_STORE_URL wants it."),
    ("malformed", "The file is damaged: restore a backup, or name another DSPEX_STORE_URL."),
    ("not a database", "DSPEX_STORE_URL names a file of another kind: name another one."),
)
_GENERAL_HINT = "Check DSPEX_STORE_URL, and that the database runs and can be reached from here."

# PostgreSQL: undefined table, undefined column, insufficient privilege: the database is not as this worker left it.
_NOT_THERE = frozenset(("42P01", "42703", "42501"))

# PostgreSQL: duplicate prepared statement, no such one: a pooler has changed the server's connection under ours.
_SWAPPED = frozenset(("42P05", "26000"))

# PostgreSQL: its class of values that it cannot take.
_BAD_VALUE = "22"

# What SQLite says of a file that no waiting mends.
_LASTING = ("unable to open", "readonly", "not a database", "malformed")

# PostgreSQL: deadlock detected, serialization failure: this transaction had to make way for another one.
_CONFLICTS = frozenset(("40P01", "40001"))


def is_lost(error: BaseException) -> bool:
    """Return whether the connection broke or hangs, so that another try on it tells nothing new."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if _is_bad_value(error):
        return False
    return isinstance(error, OSError | TimeoutError | PoolTimeoutError | InterfaceError)


def is_conflict(error: BaseException) -> bool:
    """Return whether a transaction was given up for the sake of another one and may be repeated at once."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _CONFLICTS


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn every fault of the engine into `StoreUnavailableError`; let faults of our own statements through."""
    try:
        yield
    except (IntegrityError, DataError, ProgrammingError) as error:
        if getattr(error.orig, "sqlstate", None) in _NOT_THERE | _SWAPPED:
            raise unavailable(name, error.orig or error) from error
        raise
    except DBAPIError as error:
        if _is_bad_value(error):
            raise
        raise unavailable(name, error.orig or error) from error
    except (OSError, TimeoutError, PoolTimeoutError) as error:
        raise unavailable(name, error) from error
    except Exception as error:
        if type(error).__module__.startswith("asyncpg"):
            raise unavailable(name, error) from error
        raise


def unavailable(name: str, error: BaseException) -> StoreUnavailableError:
    """Make the error that says which store cannot be used, why, and what to do.

    Args:
        name: The store's URL without its password.
        error: What the engine said.
    """
    reason = _reason(error)
    kind = StoreMisfitError if _is_lasting(name, error) else StoreUnavailableError
    hint = next((hint for words, hint in _HINTS if words in reason), _GENERAL_HINT)
    return kind(f"The store {name} cannot be used: {reason}. {hint}")


def _is_bad_value(error: BaseException) -> bool:
    """Tell whether the fault is in what was to be stored: one job's, and none of the store.

    asyncpg refuses some values before it sends them, by an error that else means a connection which is gone.
    """
    if not isinstance(error, DBAPIError):
        return False
    refused = error.orig.__cause__ if error.orig is not None else None
    by_client = type(refused).__module__.startswith("asyncpg") and type(refused).__name__ == "DataError"
    return by_client or str(getattr(error.orig, "sqlstate", None)).startswith(_BAD_VALUE)


def _is_lasting(name: str, error: BaseException) -> bool:
    """Tell whether only somebody who changes the file or the setting can help; a server may be mended elsewhere."""
    if not name.startswith("sqlite:"):
        return False
    # A disk that stalls is an OSError as well, by its class.
    is_of_the_file = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return is_of_the_file or any(words in str(error) for words in _LASTING)


def _reason(error: BaseException) -> str:
    if isinstance(error, PoolTimeoutError):
        return "no connection was free in time"
    return str(error) or ("it does not answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
