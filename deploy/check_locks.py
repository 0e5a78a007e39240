"""Check the lock files: ``python deploy/check_locks.py [--locks FOLDER] [--installed FOLDER]``, called by ``make lock``.

Every entry must name the extras that another locked package, or the project, asks of it. The pips that came with Python
3.11 (22.3 to 23.2) resolve such a need (``coverage[toml]``) apart from the entry (``coverage==7.17.3``), take a newer
release where there is one, and end the installation because that one has no hash. So a lock without the extra works
until the package's next release.

What each package needs is read from the metadata of the installed packages and compared in every environment that the
locks are for, not only in this one.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["LOCKS", "find_problems", "read_installed", "read_lock"]

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "deploy/build.lock", "deploy/installer.lock")
# Locked for other platforms only, so nothing here tells what they need. Looked up by hand: nothing.
_WITHOUT_NEEDS = frozenset({"colorama"})
_PYTHONS = ("3.11.0", "3.12.0", "3.13.0", "3.14.0", "3.15.0")
_PLATFORMS = (("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt"))
_IMPLEMENTATIONS = (("cpython", "CPython"), ("pypy", "PyPy"))
_MACHINES = ("x86_64", "AMD64", "aarch64", "arm64")


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package.

    Attributes:
        version: Its version.
        needs: Its requirements, those of its extras among them.
    """

    version: str
    needs: tuple[Requirement, ...]


def read_lock(text: str) -> list[Requirement]:
    """Return the entries of a lock file, without their hashes."""
    lines = text.replace("\\\n", " ").splitlines()
    return [Requirement(line.partition("--hash=")[0]) for line in lines if line and not line.startswith("#")]


def read_installed(folder: Path | None = None) -> dict[str, Package]:
    """Return the installed packages: name → package.

    Args:
        folder: Where they are installed; None for those of this interpreter.
    """
    found = distributions() if folder is None else distributions(path=[str(folder)])
    return {
        canonicalize_name(one.name): Package(one.version, tuple(map(Requirement, one.requires or ()))) for one in found
    }


def find_problems(text: str, *, project: Sequence[Requirement], installed: Mapping[str, Package]) -> list[str]:
    """Return what is wrong with a lock file, one sentence each; nothing where it is right.

    Args:
        text: The lock file.
        project: What the project itself asks for; what is not in this lock does not matter.
        installed: The packages whose metadata tells what they need: name → package.
    """
    if elsewhere := re.findall(r"^.*(?:://|file:).*$|^-.*$", text, flags=re.MULTILINE):
        return [f"it names an index or a local path: {line}" for line in elsewhere]
    entries = read_lock(text)
    problems = [problem for entry in entries if (problem := _unknown(entry, installed))]
    return [*problems, *_missing_extras(entries, project=project, installed=installed)]


def read_project(path: Path) -> list[Requirement]:
    """Return all that a ``pyproject.toml`` asks for: dependencies, extras and dependency groups."""
    with path.open("rb") as file:
        document = tomllib.load(file)
    groups = [*document["project"]["optional-dependencies"].values(), *document["dependency-groups"].values()]
    return [Requirement(text) for text in itertools.chain(document["project"]["dependencies"], *groups)]


def _unknown(entry: Requirement, installed: Mapping[str, Package]) -> str | None:
    package = installed.get(canonicalize_name(entry.name))
    if package is None:
        if canonicalize_name(entry.name) in _WITHOUT_NEEDS:
            return None
        return f"{entry.name} is not installed here, so what it needs is unknown: `make setup`, or see _WITHOUT_NEEDS"
    if not entry.specifier.contains(package.version, prereleases=True):
        return f"{entry.name}{entry.specifier} is locked and {package.version} is installed: `make setup`"
    return None


def _missing_extras(
    entries: Sequence[Requirement], *, project: Sequence[Requirement], installed: Mapping[str, Package]
) -> list[str]:
    missing: dict[str, None] = {}
    for environment in _environments():
        named: dict[str, set[str]] = {
            canonicalize_name(entry.name): set(map(canonicalize_name, entry.extras))
            for entry in entries
            if _holds(entry.marker, environment)
        }
        for owner, need in _needs(named, project=project, installed=installed, environment=environment):
            target = canonicalize_name(need.name)
            for extra in sorted(set(map(canonicalize_name, need.extras)) - named.get(target, set())):
                if target in named:
                    missing[f"{target} lacks its extra [{extra}], which {owner} needs"] = None
    return sorted(missing)


def _needs(
    named: Mapping[str, set[str]],
    *,
    project: Sequence[Requirement],
    installed: Mapping[str, Package],
    environment: Mapping[str, str],
) -> Iterator[tuple[str, Requirement]]:
    """Yield the needs that name an extra and hold in an environment, each with who has it."""
    for need in _with_extras(project):
        if _holds(need.marker, environment):
            yield "the project", need
    for owner, extras in named.items():
        package = installed.get(owner)
        for need in _with_extras(package.needs if package else ()):
            if any(_holds(need.marker, environment, extra=extra) for extra in ("", *extras)):
                yield owner, need


def _with_extras(needs: Iterable[Requirement]) -> Iterator[Requirement]:
    return (need for need in needs if need.extras)


def _holds(marker: Marker | None, environment: Mapping[str, str], *, extra: str = "") -> bool:
    return marker is None or marker.evaluate({**environment, "extra": extra})


def _environments() -> Iterator[dict[str, str]]:
    """Yield the environments that a lock is for, as far as markers tell them apart."""
    for python, platform, implementation, machine in itertools.product(
        _PYTHONS, _PLATFORMS, _IMPLEMENTATIONS, _MACHINES
    ):
        yield {
            "python_version": python.rpartition(".")[0],
            "python_full_version": python,
            "implementation_version": python,
            "sys_platform": platform[0],
            "platform_system": platform[1],
            "os_name": platform[2],
            "implementation_name": implementation[0],
            "platform_python_implementation": implementation[1],
            "platform_machine": machine,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check all lock files; return the exit code: 1 if one is wrong."""
    parser = argparse.ArgumentParser(prog="check_locks.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--locks", type=Path, default=ROOT, help="the folder that the lock files are in")
    parser.add_argument("--installed", type=Path, help="the folder that the locked packages are installed in")
    options = parser.parse_args(arguments)
    project, installed = read_project(ROOT / "pyproject.toml"), read_installed(options.installed)
    wrong = False
    for name in LOCKS:
        text = (options.locks / name).read_text(encoding="utf-8")
        for problem in find_problems(text, project=project, installed=installed):
            wrong = True
            print(f"Error: {name}: {problem}", file=sys.stderr)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
