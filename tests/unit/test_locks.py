"""The lock files install with any pip: each extra that is needed is named, and `make lock` writes no other lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from check_locks import LOCKS, Package, find_problems, read_installed, read_lock, read_project
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = read_project(ROOT / "pyproject.toml")
INSTALLED = read_installed()
NAMED = [
    (lock, f"{entry.name}[{','.join(sorted(entry.extras))}]")
    for lock in LOCKS
    for entry in read_lock((ROOT / lock).read_text(encoding="utf-8"))
    if entry.extras
]
# Stands in for uv: "compiles" what is in the folder `next` and installs nothing.
FAKE_UV = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        --output-file) cp "next/$(basename "$2")" "$2" ;;
        --target) ln -s "$SITE" "$2" ;;
    esac
    shift
done
"""


def _text(lock: str) -> str:
    return (ROOT / lock).read_text(encoding="utf-8")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_every_extra_that_is_needed(lock):
    """Over all of the lock, in every environment that it is for."""
    assert find_problems(_text(lock), project=PROJECT, installed=INSTALLED) == []


@pytest.mark.parametrize(("lock", "entry"), NAMED)
def test_a_lock_that_lacks_one_of_its_extras_is_refused(lock, entry):
    """Whichever it is: none of them is there for nothing, and none could go unnoticed."""
    name = entry.partition("[")[0]
    (problem,) = find_problems(_text(lock).replace(entry, name), project=PROJECT, installed=INSTALLED)

    assert problem.startswith(f"{name} lacks its extra [")


def test_extras_were_looked_at():
    """The two tests above see those that the project is known to need."""
    assert {"sqlalchemy", "coverage", "httpx"} <= {Requirement(entry).name for _, entry in NAMED}


def _problems(lock: str, **needs: str) -> list[str]:
    packages = {
        name: Package("1", (Requirement(text),) if text else ()) for name, text in ({"a": "", "b": ""} | needs).items()
    }
    return find_problems(lock, project=(), installed=packages)


@pytest.mark.parametrize(
    ("lock", "need", "expected"),
    [
        ("a==1\nb==1", "b[x]", 1),
        ("a==1\nb[X]==1", "b[x]", 0),
        ("a==1\nb[x]==1", "b[x,y]", 1),
        ("a==1\nb==1", 'b[x] ; sys_platform == "win32"', 1),
        ("a==1\nb==1", 'b[x] ; python_version < "3.11"', 0),
        ("a==1\nb==1", 'b[x] ; extra == "more"', 0),
        ("a[more]==1\nb==1", 'b[x] ; extra == "more"', 1),
        ('a==1 ; sys_platform != "win32"\nb==1', 'b[x] ; sys_platform == "win32"', 0),
        ('a==1\nb[x]==1 ; sys_platform == "win32"\nb==1 ; sys_platform != "win32"', "b[x]", 1),
        ("a==1", "b[x]", 0),
    ],
)
def test_an_extra_is_needed_where_its_marker_holds(lock, need, expected):
    """On another platform too, and only from packages and with extras that are locked."""
    assert len(_problems(lock, a=need)) == expected


def test_a_package_of_which_nothing_is_known_is_a_problem():
    """Neither one that is not installed, nor another version of it, passes unseen."""
    (missing,), (other,) = _problems("a==1\nc==1"), _problems("a==2")

    assert missing.startswith("c is not installed here")
    assert other.startswith("a==2 is locked and 1 is installed")


@pytest.mark.parametrize("line", ["--index-url x", "a @ file:///a.whl", "a @ https://example.org/a.whl"])
def test_a_lock_that_says_where_a_package_is_is_refused(line):
    """The index is the reader's own."""
    (problem,) = _problems(f"b==1\n{line}")

    assert problem.endswith(line)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `deploy/lock.sh` needs, with a uv that writes what lies in the folder `next`."""
    for name in ("pyproject.toml", "deploy/lock.sh", "deploy/check_locks.py", *LOCKS):
        for target in (tmp_path / name, tmp_path / "next" / Path(name).name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    (tools / "uv").write_text(FAKE_UV)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("SITE", str(Path(pytest.__file__).parents[1]))
    return tmp_path


def _lock(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([clone / "deploy/lock.sh"], capture_output=True, text=True)


def test_make_lock_refuses_to_write_a_lock_without_an_extra(clone):
    """All locks stay as they were, and it says which extra is missing."""
    wrong = clone / "next/requirements-dev.lock"
    wrong.write_text(wrong.read_text().replace("coverage[toml]", "coverage"))
    newer = clone / "next/requirements.lock"
    newer.write_text(f"# newer\n{newer.read_text()}")
    done = _lock(clone)

    assert done.returncode == 1
    assert done.stderr == (
        "Error: requirements-dev.lock: coverage lacks its extra [toml], which pytest-cov needs\n"
        "The lock files stay as they were.\n"
    )
    assert all((clone / lock).read_text() == _text(lock) for lock in LOCKS)
    assert [path.name for path in (clone / ".venv").iterdir()] == ["bin"]


def test_make_lock_writes_locks_that_pass(clone):
    """All four."""
    for lock in LOCKS:
        path = clone / "next" / Path(lock).name
        path.write_text(f"# newer\n{path.read_text()}")
    done = _lock(clone)

    assert done.returncode == 0, done.stderr
    assert all((clone / lock).read_text() == f"# newer\n{_text(lock)}" for lock in LOCKS)
