"""Run programs of another Debian suite: its packages in a kept folder, entered by chroot.

=================  ==================================================  ================================================
`Release`          what it is                                          what for
=================  ==================================================  ================================================
``TRIXIE``         Debian 13, stable: RabbitMQ 4.0, Python 3.13        the smoke tests of ``make test``
``forky("4.3")``   the next Debian, which moves: its RabbitMQ, today   ``make test BROKER=4.3``
                   4.3, with the Erlang that it depends on
=================  ==================================================  ================================================

Mounts are made in a mount namespace of each command: they end with its last process, however that ends, and nobody
else ever sees them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from child_processes import ServiceError
from debian_suite import Suite
from kept_folder import HOME, kept_folder

_RABBITMQ = "rabbitmq-server"
_NUMBER = re.compile(r"4\.\d+")
# What a shared folder must not hide.
_TAKEN = frozenset({"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "usr"})


@dataclass(frozen=True)
class Release:
    """What to unpack.

    Attributes:
        suite: The Debian suite.
        rabbitmq: The number of its RabbitMQ, major and minor.
        packages: The packages; what they depend on comes with them.
    """

    suite: str
    rabbitmq: str
    packages: tuple[str, ...] = (_RABBITMQ,)

    @property
    def folder_name(self) -> str:
        """The name of its folder, which another number or another list of packages changes."""
        recipe = hashlib.sha256(" ".join(self.packages).encode()).hexdigest()
        return f"{self.suite}-rabbitmq-{self.rabbitmq}-{recipe[:8]}"


TRIXIE = Release("trixie", "4.0", (_RABBITMQ, "python3.13"))


def forky(rabbitmq: str) -> Release:
    """Return Debian forky with the RabbitMQ of this number; whether forky has it is seen when it is unpacked."""
    return Release("forky", rabbitmq)


def release_with(rabbitmq: str) -> Release:
    """Return the release that has this RabbitMQ.

    Args:
        rabbitmq: Its number, e.g. ``4.3``.

    Raises:
        ServiceError: Not a number of RabbitMQ 4.
    """
    if not _NUMBER.fullmatch(rabbitmq):
        raise ServiceError(
            f"RabbitMQ {rabbitmq} cannot be unpacked: there is 4.0 (Debian trixie) and what forky has now, e.g. 4.3."
        )
    return TRIXIE if rabbitmq == TRIXIE.rabbitmq else forky(rabbitmq)


@dataclass(frozen=True)
class Root:
    """An unpacked release.

    Attributes:
        path: Its folder, ``/`` for the programs in it.
    """

    path: Path

    def command(self, *command: str, folder: Path) -> tuple[str, ...]:
        """Return a command that runs a program of this root; signals reach the program itself.

        It sees the machine's network, ``/dev``, ``/proc`` and temporary files, and of everything else only the root.

        Args:
            command: A program of the root and its arguments.
            folder: Its working folder, seen under the same name with all that is beside it, as the folder of temporary
                files is.
        """
        shared = {_top(folder), _top(Path(tempfile.gettempdir())), "dev", "proc"}
        for name in shared:
            (self.path / name).mkdir(exist_ok=True)
        mounts = [shlex.join(["mount", "--rbind", f"/{name}", f"{self.path}/{name}"]) for name in sorted(shared)]
        enter = shlex.join([_tool("chroot"), str(self.path), "env", f"--chdir={folder.resolve()}", "--"])
        script = " && ".join([*mounts, f'exec {enter} "$@"'])
        return (*_own_mounts(), "sh", "-c", script, "sh", *command)


@functools.cache
def unpacked(release: Release) -> Root:
    """Return the release's root; download and unpack it first where that was not done yet (about 15 s, once).

    Raises:
        ServiceError: It cannot be had or entered here; the message says what to do.
    """
    _check_rights()
    return Root(kept_folder(release.folder_name, functools.partial(_unpack, release)))


def _unpack(release: Release, root: Path) -> None:
    started = time.monotonic()
    names = " and ".join(release.packages)
    _say(f"fetching {names} of Debian {release.suite} into {HOME.name} (once, about 70 MB) …")
    with tempfile.TemporaryDirectory(prefix="apt-", dir=root) as own:
        suite = Suite(release.suite, folder=Path(own))
        _check_number(release, suite.version(_RABBITMQ))
        suite.unpack(release.packages, root)
    _say(f"Debian {release.suite} is unpacked ({time.monotonic() - started:.0f} s)")


def _check_number(release: Release, version: str) -> None:
    found = ".".join(version.split(".")[:2])
    if found != release.rabbitmq:
        raise ServiceError(
            f"Debian {release.suite} has RabbitMQ {found} now, not {release.rabbitmq}; ask for {found} by its number."
        )


def _check_rights() -> None:
    done = subprocess.run([*_own_mounts(), "true"], capture_output=True, check=False)
    if done.returncode != 0:
        raise ServiceError(
            "Another Debian is entered with chroot and mounts of its own, which needs root: run this with sudo, in a container with the capability SYS_ADMIN."
        )


def _own_mounts() -> tuple[str, ...]:
    # Who is not root becomes it in a user namespace, where the system allows that.
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    return (_tool("unshare"), *as_root, "--mount", "--propagation", "private", "--")


def _tool(name: str) -> str:
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return shutil.which(name, path=places) or name


def _top(folder: Path) -> str:
    name = folder.resolve().parts[1]
    if name in _TAKEN:
        raise ServiceError(f"A program of another Debian cannot work in {folder}; set TMPDIR to another place.")
    return name


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
