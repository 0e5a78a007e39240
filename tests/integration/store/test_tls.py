"""PostgreSQL with TLS, by a CA of one's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_services import PostgresServer, temporary_folder
from sqlalchemy import make_url, text

from tests.support.certificates import Authority, Certificate
from worker.store import StoreUnavailableError
from worker.store.database import connect

pytestmark = pytest.mark.timeout(120)


@dataclass
class TLSServer:
    """A server whose certificate is for ``localhost``, and that wants one of a client.

    Attributes:
        url: By the host name in its certificate.
        folder: With the certificates of its CA.
        authority: Signed it, and what clients show.
        client: A client's certificate.
    """

    url: str
    folder: Path
    authority: Authority
    client: Certificate

    def with_options(self, **options: object) -> str:
        """Return the URL with these options."""
        query = {name: str(value) for name, value in options.items()}
        return make_url(self.url).update_query_dict(query).render_as_string(hide_password=False)

    @property
    def shown(self) -> dict[str, object]:
        """The options that show the client's certificate."""
        return {"sslcert": self.client.certificate, "sslkey": self.client.key}


@pytest.fixture(scope="module")
def server() -> Iterator[TLSServer]:
    with temporary_folder() as folder:
        postgres = PostgresServer(folder / "postgres")
        with postgres:
            pass
        authority = Authority(folder / "certificates")
        _make_secure(folder / "postgres" / "data", authority)
        with postgres:
            url = make_url(postgres.url).set(host="localhost").render_as_string(hide_password=False)
            yield TLSServer(url, folder, authority, authority.sign("client"))


def _make_secure(data: Path, authority: Authority) -> None:
    own = authority.sign("server")
    for source, name in ((own.certificate, "server.crt"), (own.key, "server.key"), (authority.ca_file, "root.crt")):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        os.chown(data / name, data.stat().st_uid, data.stat().st_gid)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_ca_file = 'root.crt'\n")
    (data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256 clientcert=verify-ca\n")


async def encryption(url: str) -> bool:
    """Tell whether a connection is encrypted."""
    database = connect(url, lock_seconds=15)
    try:
        asked = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(await database.read(lambda c: c.execute(text(asked)).scalar_one()))
    finally:
        await database.close()


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
async def test_a_server_is_verified_by_a_ca_of_ones_own(server: TLSServer, mode: str) -> None:
    """With the client's certificate that it asks for."""
    url = server.with_options(sslmode=mode, sslrootcert=server.authority.ca_file, **server.shown)

    assert await encryption(url)


@pytest.mark.parametrize(
    ("host", "is_own_ca", "mode", "sentence"),
    [
        ("localhost", False, "verify-full", "Name the PEM file of the server's CA as `sslrootcert`"),
        ("localhost", False, "require", "Name the PEM file of the server's CA as `sslrootcert`"),
        ("127.0.0.1", True, "verify-full", "Use the host name in DSPEX_STORE_URL that stands in"),
    ],
)
async def test_what_cannot_be_verified_is_said(
    server: TLSServer, host: str, is_own_ca: bool, mode: str, sentence: str
) -> None:
    """Another CA, or a certificate for another host, with what to change; no password."""
    other = Authority(server.folder / "other", name="other CA")
    ca_file = server.authority.ca_file if is_own_ca else other.ca_file
    url = server.with_options(sslmode=mode, sslrootcert=ca_file, **server.shown)
    parsed = make_url(url).set(host=host)

    with pytest.raises(StoreUnavailableError, match=sentence) as refused:
        await encryption(parsed.render_as_string(hide_password=False))

    assert str(parsed.password) not in str(refused.value)


async def test_the_system_does_not_trust_a_ca_of_ones_own(server: TLSServer) -> None:
    """``sslrootcert=system`` verifies, and with it the host name."""
    with pytest.raises(StoreUnavailableError, match="Name the PEM file of the server's CA"):
        await encryption(server.with_options(sslrootcert="system", **server.shown))


async def test_a_certificate_that_is_missing_is_said(server: TLSServer) -> None:
    """The server wants one."""
    url = server.with_options(sslmode="verify-full", sslrootcert=server.authority.ca_file)

    with pytest.raises(StoreUnavailableError, match="Name a certificate and its key as `sslcert` and `sslkey`"):
        await encryption(url)


async def test_a_ca_that_is_not_named_is_said(server: TLSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is trusted then, and libpq's own place for it is empty."""
    monkeypatch.setenv("HOME", str(server.folder))

    with pytest.raises(StoreUnavailableError, match="Name the PEM file of the server's CA"):
        await encryption(server.with_options(sslmode="verify-full"))


async def test_a_file_that_is_missing_is_said(server: TLSServer) -> None:
    """It is looked for at each connect: it may be renewed there."""
    url = server.with_options(sslmode="verify-full", sslrootcert=server.folder / "nowhere.pem", **server.shown)

    with pytest.raises(StoreUnavailableError, match="sslrootcert"):
        await encryption(url)
