"""A lock goes on installing after its packages have had newer releases, whichever installer reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installers import UV, ensure_oldest_pip, run, without_configuration, write_wheel

ROOT = Path(__file__).resolve().parents[2]
INSTALLERS = ["oldest pip", "pip of this Python", "uv"]


@pytest.fixture(scope="module", autouse=True)
def oldest_pip() -> Path:
    """Fetched before the first time-out runs."""
    return ensure_oldest_pip()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index with `plugin`, which needs `core[fast]`, and with `core` 1."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder, "plugin", "1", metadata=["Requires-Dist: core[fast]>=1"])
    _release_core(folder, "1")
    return folder


def _release_core(index: Path, version: str) -> None:
    needs = 'Requires-Dist: speedups ; extra == "fast"'
    write_wheel(index, "core", version, metadata=["Provides-Extra: fast", needs])
    write_wheel(index, "speedups", version)


def _lock(index: Path, *options: str) -> Path:
    """Lock `plugin` as `deploy/lock.sh` does, with what the index holds today."""
    requirements, lock = index.with_name("requirements.in"), index.with_name("requirements.lock")
    requirements.write_text("plugin\n")
    places = ["--no-index", "--find-links", str(index), "--output-file", str(lock), str(requirements)]
    run(UV, "pip", "compile", "--generate-hashes", *options, *places, environment=without_configuration())
    return lock


def _install(installer: str, lock: Path, *, oldest_pip: Path) -> subprocess.CompletedProcess[str]:
    folder = lock.parent
    command = {
        "oldest pip": [sys.executable, str(oldest_pip / "pip"), "--disable-pip-version-check", "install"],
        "pip of this Python": [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"],
        "uv": [UV, "pip", "install", "--python", sys.executable],
    }[installer]
    options = ["--require-hashes", "--no-index", "--find-links", str(folder / "index"), "--requirement", str(lock)]
    return subprocess.run(
        [*command, *options, "--target", str(folder / "site")],
        cwd=folder,
        env=without_configuration(),
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_lock_that_names_its_extras_installs_after_a_newer_release(installer, index, oldest_pip):
    """What was locked is what comes, though the index has a newer one."""
    lock = _lock(index, "--no-strip-extras")
    _release_core(index, "2")
    done = _install(installer, lock, oldest_pip=oldest_pip)

    assert done.returncode == 0, done.stderr
    assert {path.name for path in (index.parent / "site").glob("*.dist-info")} == {
        "plugin-1.dist-info",
        "core-1.dist-info",
        "speedups-1.dist-info",
    }


def test_a_lock_without_its_extras_fails_with_the_oldest_pip(index, oldest_pip):
    """So the test above does see the fault."""
    lock = _lock(index, "--strip-extras")
    _release_core(index, "2")
    done = _install("oldest pip", lock, oldest_pip=oldest_pip)

    assert "In --require-hashes mode, all requirements must have their versions pinned" in done.stderr
    assert done.returncode == 1


def test_our_locks_are_written_with_the_option_that_names_extras():
    """`deploy/lock.sh` locks as this test does."""
    assert "--no-strip-extras" in (ROOT / "deploy/lock.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_lock_resolves_for_newer_pythons(version, tmp_path):
    """Each package of the runtime lock has a wheel for it, or is pure Python; no interpreter of that version is needed."""
    options = ["--python", sys.executable, "--python-version", version, "--only-binary", ":all:", "--no-cache"]
    lock = ["--require-hashes", "--requirement", str(ROOT / "requirements.lock")]
    run(UV, "pip", "install", "--no-config", "--dry-run", *options, *lock, "--target", str(tmp_path))
