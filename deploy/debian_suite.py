"""Fetch packages of another Debian suite with apt and unpack them, without touching the machine's own packages.

The mirror is the one that the machine's apt is configured with; everything else of apt is private: its sources, lists,
cache and an empty dpkg status, against which dependencies are resolved. Every index is checked against the Debian
keyring. Packages are only unpacked: no maintainer script runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from child_processes import ServiceError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# The shell and tools that the start scripts call; apt takes them for given on an installed system.
_ESSENTIAL = ("base-files", "base-passwd", "bash", "coreutils", "dash", "grep", "libc-bin", "sed")
_NO_SUITE_OF_ITS_OWN = re.compile(r"[-/](security|updates|backports)")
_INDEX = re.compile(r"^'(?P<mirror>\S+)/dists/(?P<suite>\S+)/InRelease'", re.MULTILINE)

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Signed-By: {keyring}
"""

# Read with --config-file, after all of the machine's settings: these win.
_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::State "{folder}/state";
Dir::State::lists "{folder}/state/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "{folder}/cache/archives";
Dir::Etc::sourcelist "{folder}/suite.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
"""


class Suite:
    """A Debian suite (e.g. ``trixie``) as the machine's mirror has it now.

    Args:
        name: The suite.
        folder: An empty folder for apt's own files; the caller's to remove.

    Raises:
        ServiceError: No apt here, no Debian keyring, or no configured mirror that has the suite.
    """

    def __init__(self, name: str, *, folder: Path) -> None:
        self.name = name
        self._folder = folder.resolve()
        self._archives = self._folder / "cache" / "archives"
        _check_machine()
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True)
        (self._folder / "status").touch()
        (self._folder / "apt.conf").write_text(_CONFIG.format(folder=self._folder), encoding="utf-8")
        self._read_lists()

    def version(self, package: str) -> str:
        """Return the version of a package in this suite, e.g. ``4.0.5-6``.

        Raises:
            ServiceError: The suite has no such package.
        """
        shown = self._apt("apt-cache", "show", "--no-all-versions", package)
        found = re.search(r"^Version: (?:\d+:)?(\S+)$", shown.stdout, re.MULTILINE)
        if found is None:
            raise ServiceError(f"Debian {self.name} has no package {package}.")
        return found[1]

    def unpack(self, packages: Sequence[str], into: Path) -> None:
        """Download packages with all that they depend on, and unpack them into a folder that chroot can enter.

        Raises:
            ServiceError: A download or a package failed; with the end of what apt said.
        """
        started = time.monotonic()
        wanted = [*packages, *_ESSENTIAL]
        done = self._apt("apt-get", "install", "--download-only", "--yes", *wanted)
        _check(done, f"Cannot download {' '.join(packages)} of Debian {self.name}.")
        files = sorted(self._archives.glob("*.deb"), key=_links_first)
        size = sum(file.stat().st_size for file in files) / 1e6
        _say(f"unpacking {len(files)} packages ({size:.0f} MB, fetched in {time.monotonic() - started:.0f} s) …")
        for file in files:
            command = ["dpkg-deb", "--extract", str(file), str(into)]
            _check(_run(command), f"Cannot unpack {file.name}.")
            file.unlink()
        _complete(into)

    def _read_lists(self) -> None:
        """Find the mirror among those of the machine and read its list of packages."""
        said = ""
        for mirror in configured_mirrors():
            text = _SOURCES.format(mirror=mirror, suite=self.name, keyring=KEYRING)
            (self._folder / "suite.sources").write_text(text, encoding="utf-8")
            done = self._apt("apt-get", "update", "--error-on=any")
            if done.returncode == 0:
                return
            said = _end(done.stdout)
        raise ServiceError(
            f"No mirror that apt on this machine is configured with gives Debian {self.name}: name one in /etc/apt/sources.list.d, or try again when it answers.{said}"
        )

    def _apt(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([command, f"--config-file={self._folder}/apt.conf", *arguments])


def configured_mirrors() -> list[str]:
    """Return the URLs of the mirrors of the machine's apt configuration that may hold other suites, in apt's order.

    apt itself reads the configuration, whatever its format; it is made to say what an update of empty lists would fetch.
    """
    with tempfile.TemporaryDirectory(prefix="dspex-apt-") as empty:
        done = _run(["apt-get", "--option", f"Dir::State={empty}", "update", "--print-uris"])
    found = (match for match in _INDEX.finditer(done.stdout) if not _NO_SUITE_OF_ITS_OWN.search(match["suite"]))
    return list(dict.fromkeys(match["mirror"] for match in found))


def _check_machine() -> None:
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise ServiceError(f"Packages of another Debian suite need {' and '.join(missing)}; use a Debian machine.")
    if not KEYRING.exists():
        raise ServiceError(f"Needs {KEYRING}: `sudo apt-get install debian-archive-keyring`.")


def _links_first(package: Path) -> tuple[bool, str]:
    # base-files brings the links /bin → usr/bin and the like; before them, another package would make folders there.
    return (not package.name.startswith("base-files_"), package.name)


def _complete(root: Path) -> None:
    """Write the few files of /etc that maintainer scripts would have written."""
    for name in ("passwd", "group"):
        shutil.copyfile(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _check(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    if done.returncode != 0:
        raise ServiceError(f"{sentence}{_end(done.stdout)}")


def _end(output: str, *, lines: int = 10) -> str:
    return "".join(f"\n    {line}" for line in ["The end of what was said:", *output.splitlines()[-lines:]])


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
