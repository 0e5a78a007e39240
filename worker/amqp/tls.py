"""Say what is wrong with TLS, and which setting mends it.

OpenSSL's own words name neither a file nor a setting, and aiormq wraps them two ways. A fault here is no reason to
end: a certificate may be renewed, so it is retried like any broker that cannot be reached.

See Also:
    docs/SECURITY.md.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import AMQPConnectionError
from yarl import URL

_WANTS_CERTIFICATE = "it wants a certificate: set DSPEX_AMQP_CERT_FILE and DSPEX_AMQP_KEY_FILE"
_UNUSABLE = "DSPEX_AMQP_CA_FILE, DSPEX_AMQP_CERT_FILE or DSPEX_AMQP_KEY_FILE cannot be used"
# Fragment of OpenSSL's text → what it means for an operator; the first that is found counts.
_MEANINGS = {
    "Hostname mismatch": "its certificate is for another host name: use the name in DSPEX_AMQP_URL that stands in it",
    "IP address mismatch": "its certificate is not for this address: use the name in DSPEX_AMQP_URL that stands in it",
    "certificate has expired": "its certificate, or its CA's, has expired: renew it",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is signed by no CA that is trusted here: DSPEX_AMQP_CA_FILE must "
    "name the PEM file of its CA",
    "CERTIFICATE_REQUIRED": _WANTS_CERTIFICATE,
    "HANDSHAKE_FAILURE": "it breaks off the handshake: does it want DSPEX_AMQP_CERT_FILE and DSPEX_AMQP_KEY_FILE?",
    "UNKNOWN_CA": "it does not trust the CA of DSPEX_AMQP_CERT_FILE",
    "BAD_CERTIFICATE": "it does not take the certificate in DSPEX_AMQP_CERT_FILE",
    "KEY_VALUES_MISMATCH": "DSPEX_AMQP_KEY_FILE is not the key of DSPEX_AMQP_CERT_FILE",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port: that is usually 5671",
}


class TLSTroubleError(AMQPConnectionError):
    """TLS failed before the login; ``str(error)`` says why, and which setting mends it."""


@contextmanager
def tls_trouble(url: URL) -> Iterator[None]:
    """Turn a fault of TLS into one sentence that names the setting; other faults pass.

    Args:
        url: Where the block connects to.

    Raises:
        TLSTroubleError: The broker's certificate or ours, or a file of them, cannot be used.
    """
    try:
        yield
    except OSError as error:
        if url.scheme != "amqps" or (meaning := explain(error, has_certificate="certfile" in url.query)) is None:
            raise
        raise TLSTroubleError(meaning) from None


def explain(error: BaseException, *, has_certificate: bool = True) -> str | None:
    """Return what a fault of TLS means, or None where it is no such fault.

    Args:
        error: What connecting raised.
        has_certificate: Whether we showed a certificate. A broker that asks for one may reset the connection before
            its alert is read.
    """
    fault = _fault(error)
    match fault:
        case None:
            return None
        case TLSTroubleError():
            return str(fault)
        case ssl.SSLError():
            text = str(fault)
            found = (meaning for fragment, meaning in _MEANINGS.items() if fragment in text)
            return f"TLS: {next(found, _UNUSABLE)} ({text})"
        case ConnectionResetError():
            return None if has_certificate else f"TLS: it closes the connection; perhaps {_WANTS_CERTIFICATE}"
        case _:
            return "TLS: DSPEX_AMQP_CA_FILE, DSPEX_AMQP_CERT_FILE or DSPEX_AMQP_KEY_FILE cannot be read"


def _fault(error: BaseException | None) -> OSError | None:
    """Return the fault behind an error: ours, OpenSSL's, or that of a file that should be read."""
    while error is not None:
        if isinstance(error, (TLSTroubleError, ssl.SSLError, FileNotFoundError, PermissionError, ConnectionResetError)):
            return error
        error = error.__cause__
    return None
