"""What OpenSSL says, in an operator's words."""

from __future__ import annotations

import ssl

import pytest
from aiormq.exceptions import AMQPConnectionError
from yarl import URL

from worker.amqp.tls import TLSTroubleError, explain, tls_trouble

_VERIFY = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{_VERIFY}unable to get local issuer certificate", "DSPEX_AMQP_CA_FILE"),
        (f"{_VERIFY}self-signed certificate in certificate chain", "DSPEX_AMQP_CA_FILE"),
        (f"{_VERIFY}certificate has expired", "expired"),
        (f"{_VERIFY}Hostname mismatch, certificate is not valid for 'a'.", "another host name"),
        (f"{_VERIFY}IP address mismatch, certificate is not valid for '10.0.0.1'.", "not for this address"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert", "set DSPEX_AMQP_CERT_FILE and DSPEX_AMQP_KEY_FILE"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert", "DSPEX_AMQP_CERT_FILE"),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert", "does not trust the CA of DSPEX_AMQP_CERT_FILE"),
        ("[X509: KEY_VALUES_MISMATCH] key values mismatch", "DSPEX_AMQP_KEY_FILE is not the key"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "5671"),
        ("[SSL] PEM lib", "cannot be used"),
    ],
)
def test_every_fault_of_tls_names_what_mends_it(text: str, words: str) -> None:
    """OpenSSL's own text comes along, in brackets."""
    error = AMQPConnectionError(1, text)
    error.__cause__ = ssl.SSLError(1, text)
    told = explain(error) or ""

    assert words in told.partition("(")[0]
    assert text in told


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), TimeoutError(), ConnectionResetError()])
def test_other_faults_pass_as_they_are(error: OSError) -> None:
    """A broker that is down is no question of certificates."""
    with pytest.raises(type(error)), tls_trouble(URL("amqps://h/?certfile=c")):
        raise error


def test_without_tls_nothing_is_explained() -> None:
    """A reset of a plain connection has other reasons."""
    with pytest.raises(ConnectionResetError), tls_trouble(URL("amqp://h/")):
        raise ConnectionResetError


def test_a_reset_may_mean_that_a_certificate_is_missing() -> None:
    """The broker's alert can be lost with the connection."""
    with pytest.raises(TLSTroubleError, match="perhaps it wants a certificate"), tls_trouble(URL("amqps://h/")):
        raise ConnectionResetError
