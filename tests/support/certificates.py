"""A certificate authority of the test's own, made with the ``openssl`` command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; all files lie in one folder.

    Attributes:
        ca_file: PEM file of its own certificate.
    """

    def __init__(self, folder: Path, *, name: str = "test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        own = self._make("ca", f"/CN={name}", extensions=_CA_EXTENSIONS)
        self.ca_file = own.certificate
        self._key = own.key

    def sign(self, name: str, *, host: str = "localhost") -> Certificate:
        """Make a certificate that is good for a host name, as a server's and as a client's."""
        extensions = ("basicConstraints=critical,CA:FALSE", f"subjectAltName=DNS:{host}")
        signer = ("-CA", str(self.ca_file), "-CAkey", str(self._key))
        return self._make(name, f"/CN={name}", *signer, extensions=extensions)

    def _make(self, name: str, subject: str, *signer: str, extensions: tuple[str, ...]) -> Certificate:
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        tool = shutil.which("openssl")
        assert tool, "openssl is missing: `make test` installs it, `apt-get install openssl` too."
        added = [word for extension in extensions for word in ("-addext", extension)]
        subprocess.run(
            [
                *(tool, "req", "-x509", "-nodes", "-days", "2", "-subj", subject),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-keyout", str(made.key), "-out", str(made.certificate), *signer, *added),
            ],
            check=True,
            capture_output=True,
        )
        return made
