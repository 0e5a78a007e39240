"""``amqps://`` against a real broker with a certificate of a CA of the test's own."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiormq.exceptions import AMQPConnectionError
from child_processes import free_port
from local_services import temporary_folder
from rabbit_node import RabbitNode
from structlog.testing import capture_logs
from yarl import URL

from tests.integration.amqp.conftest import until
from tests.integration.conftest import StartWorker
from tests.support.certificates import Authority
from tests.support.processes import COMMAND, clean_environment
from worker.amqp.connection import Link, connect
from worker.client import Client
from worker.settings import load

pytestmark = pytest.mark.timeout(120)

_ASK_FOR_CERTIFICATE = "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"


@dataclass
class TLSBroker:
    """A node that listens on a plain port and on one with TLS.

    Attributes:
        node: The node.
        url: ``amqps://`` URL by the host name in its certificate.
        authority: The CA that signed it.
    """

    node: RabbitNode
    url: URL
    authority: Authority

    @property
    def ca_file(self) -> str:
        return str(self.authority.ca_file)


@contextmanager
def _tls_broker(*, config: str = "") -> Iterator[TLSBroker]:
    with temporary_folder() as folder:
        authority = Authority(folder / "ca")
        server, port = authority.sign("server"), free_port()
        listener = (
            f"listeners.ssl.local = 127.0.0.1:{port}\nssl_options.cacertfile = {authority.ca_file}\n"
            f"ssl_options.certfile = {server.certificate}\nssl_options.keyfile = {server.key}\n"
        )
        with RabbitNode(folder / "rabbitmq", config=listener + config) as node:
            # RabbitMQ 4 opens this port a little after the plain one.
            node.ctl("await_startup")
            url = URL(node.url).with_scheme("amqps").with_host("localhost").with_port(port)
            yield TLSBroker(node, url, authority)


@pytest.fixture(scope="module")
def broker() -> Iterator[TLSBroker]:
    with _tls_broker() as broker:
        yield broker


@pytest.fixture(scope="module")
def amqp_url(broker: TLSBroker) -> str:
    """The plain URL of this module's node, for what is no part of the test."""
    return broker.node.url


async def _fault(url: URL) -> str:
    with pytest.raises(AMQPConnectionError) as caught:
        await connect(str(url), name="test")
    return str(caught.value)


async def test_a_worker_and_a_client_that_know_the_ca_do_a_job(
    broker: TLSBroker, start_worker: StartWorker, namespace: str
) -> None:
    """Everything that connects uses the settings' file or the client's context."""
    url, trust = str(broker.url), ssl.create_default_context(cafile=broker.ca_file)
    async with (
        start_worker(amqp_url=url, amqp_ca_file=broker.ca_file),
        Client(url, namespace=namespace, ssl_context=trust) as client,
    ):
        result = await client.predict("question -> answer", {"question": "6 × 7?"})

    assert result.outputs == {"answer": "42"}


async def test_without_the_ca_the_broker_is_not_trusted(broker: TLSBroker) -> None:
    """The system's CAs did not sign it."""
    fault = await _fault(broker.url)

    assert "DSPEX_AMQP_CA_FILE" in fault


async def test_another_ca_is_not_enough(broker: TLSBroker, tmp_path: Path) -> None:
    """Of the same name, too."""
    fault = await _fault(broker.url % {"cafile": str(Authority(tmp_path).ca_file)})

    assert "DSPEX_AMQP_CA_FILE" in fault


async def test_the_host_name_must_stand_in_the_certificate(broker: TLSBroker) -> None:
    """A certificate of the right CA for another host is a stranger's."""
    fault = await _fault(broker.url.with_host("127.0.0.1") % {"cafile": broker.ca_file})

    assert "use the name in DSPEX_AMQP_URL that stands in it" in fault


async def test_a_port_without_tls_is_said(broker: TLSBroker) -> None:
    """5672 for 5671 is the usual mistake."""
    fault = await _fault(broker.url.with_port(broker.node.port) % {"cafile": broker.ca_file})

    assert "does not speak TLS on this port" in fault


@pytest.mark.parametrize("text", [None, "no certificate"], ids=["missing", "no PEM"])
async def test_a_ca_file_that_cannot_be_used_is_said(broker: TLSBroker, tmp_path: Path, text: str | None) -> None:
    """It may go away after the start."""
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    fault = await _fault(broker.url % {"cafile": str(tmp_path / "ca.pem")})

    assert "DSPEX_AMQP_CA_FILE" in fault


async def test_a_client_that_does_not_know_the_ca_does_not_connect(broker: TLSBroker) -> None:
    """It sends no password either."""
    with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        async with Client(str(broker.url)):
            pass


async def test_a_link_tries_again_until_the_certificates_are_right(broker: TLSBroker, tmp_path: Path) -> None:
    """A renewed file is read without a restart, and until then the log says what is wrong."""
    ca_file = tmp_path / "ca.pem"
    shutil.copy(Authority(tmp_path / "other").ca_file, ca_file)
    settings = load({"DSPEX_AMQP_URL": str(broker.url), "DSPEX_AMQP_CA_FILE": str(ca_file)})
    link = Link(settings.broker_url, name="test")
    with capture_logs() as log:
        connecting = asyncio.create_task(link.connection())
        await until(lambda: len(log) >= 2)
        shutil.copy(broker.ca_file, ca_file)
        await connecting
        is_open = link.is_open
        await link.close()

    assert is_open
    assert "DSPEX_AMQP_CA_FILE" in log[0]["reason"]
    assert log[-1]["event"] == "broker.back"


async def test_the_command_line_says_which_setting_is_missing(broker: TLSBroker) -> None:
    """One line, without the password, exit code 2."""
    password = broker.url.password or ""
    done = await asyncio.to_thread(
        subprocess.run,
        [COMMAND, "call", "ping"],
        env=clean_environment(amqp_url=str(broker.url)),
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "DSPEX_AMQP_CA_FILE must name the PEM file of its CA" in done.stderr
    assert password not in done.stderr


async def test_a_broker_may_ask_for_the_workers_certificate(tmp_path: Path) -> None:
    """With one of its CA the worker is let in; with none it is told what to set."""
    with _tls_broker(config=_ASK_FOR_CERTIFICATE) as broker:
        own = broker.authority.sign("worker")
        trusting = broker.url % {"cafile": broker.ca_file}
        fault = await _fault(trusting)
        settings = load(
            {
                "DSPEX_AMQP_URL": str(broker.url),
                "DSPEX_AMQP_CA_FILE": broker.ca_file,
                "DSPEX_AMQP_CERT_FILE": str(own.certificate),
                "DSPEX_AMQP_KEY_FILE": str(own.key),
            }
        )
        connection = await connect(settings.broker_url, name="test")
        is_closed = connection.is_closed
        await connection.close()
        stranger = Authority(tmp_path).sign("stranger")
        files = {"certfile": str(stranger.certificate), "keyfile": str(stranger.key)}
        with pytest.raises(AMQPConnectionError):
            await connect(str(trusting % files), name="test")

    assert not is_closed
    assert "DSPEX_AMQP_CERT_FILE and DSPEX_AMQP_KEY_FILE" in fault
