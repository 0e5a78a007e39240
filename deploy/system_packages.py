"""Install Debian packages with apt, so that no service starts from it and the machine's own set-up stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from child_processes import ServiceError

_POLICY = Path("/usr/sbin/policy-rc.d")
_CREATE_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
# Enabled by the package, they would start at the next boot of the machine.
_UNITS = {"rabbitmq-server": ["rabbitmq-server.service", "epmd.service", "epmd.socket"]}


def install(*packages: str, otherwise: str) -> None:
    """Install packages with apt, as root or through a sudo that asks for no password.

    While apt runs, a ``policy-rc.d`` forbids every service start and PostgreSQL makes no cluster; both files are put
    back as they were. The services of the packages are left disabled.

    Args:
        packages: Names of Debian packages.
        otherwise: What the reader can do where apt cannot be used; ends the sentence of the error.

    Raises:
        ServiceError: No apt here, no rights, or apt failed.
    """
    names = " ".join(packages)
    prefix = _root_prefix()
    if prefix is None or shutil.which("apt-get") is None:
        raise ServiceError(f"Needs {names}: `sudo apt-get install {names}`{otherwise}")
    print(f"  installing {names} with apt …", file=sys.stderr, flush=True)
    with _replaced(_POLICY, "#!/bin/sh\nexit 101\n", mode=0o755, prefix=prefix):
        _apt(["update"], prefix=prefix, advice=otherwise)
        if "postgresql" in packages:
            # Alone and first: it lays down the file that keeps the next one from making a cluster.
            _install(["postgresql-common"], prefix=prefix, advice=otherwise)
            with _replaced(_CREATE_CLUSTER, "create_main_cluster = false\n", mode=0o644, prefix=prefix):
                _install(["postgresql"], prefix=prefix, advice=otherwise)
        _install(packages, prefix=prefix, advice=otherwise)
        _disable([unit for package in packages for unit in _UNITS.get(package, [])], prefix=prefix)


def _root_prefix() -> list[str] | None:
    """Return what to write before a command to run it as root; None where that is not possible without a question."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def _install(packages: Sequence[str], *, prefix: list[str], advice: str) -> None:
    _apt(["install", "--yes", "--no-install-recommends", *packages], prefix=prefix, advice=advice)


def _apt(arguments: list[str], *, prefix: list[str], advice: str) -> None:
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"]
    command = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", *options, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        end = "".join(f"\n    {line}" for line in done.stdout.splitlines()[-15:])
        raise ServiceError(f"`apt-get {' '.join(arguments)}` failed{advice} The end of what it said:{end}")


def _disable(units: Sequence[str], *, prefix: list[str]) -> None:
    helper = shutil.which("deb-systemd-helper")
    if helper is None:
        return
    for unit in units:
        # It works for a package's own scripts only, which say so with this variable.
        command = [*prefix, "env", "DPKG_MAINTSCRIPT_PACKAGE=dspex-worker", helper, "disable", unit]
        subprocess.run(command, capture_output=True, check=False)


@contextmanager
def _replaced(path: Path, text: str, *, mode: int, prefix: list[str]) -> Iterator[None]:
    """Put a file in place of another one for a while; afterwards the old one is back, or none where none was."""
    backup = Path(f"{path}.before-dspex")
    had_file = path.exists() and not backup.exists()
    if had_file:
        _run(prefix, "cp", "--archive", path, backup)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as source:
        source.write(text)
        source.flush()
        _run(prefix, "install", "-D", f"--mode={mode:o}", source.name, path)
    try:
        yield
    finally:
        if backup.exists():
            _run(prefix, "mv", "--force", backup, path)
        else:
            _run(prefix, "rm", "--force", path)


def _run(prefix: list[str], *command: str | Path) -> None:
    subprocess.run([*prefix, *map(str, command)], check=True)
