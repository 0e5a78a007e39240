"""Make ``.venv`` with everything in it: ``python3.11 deploy/make_venv.py``, called by ``make setup``.

Needs nothing but Python. Every package comes from the lock file and is checked against its hash; the project itself
is installed in place, so that an edit needs no new installation. pip's download cache stays unused: nothing is left
outside the clone.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import system_packages
from child_processes import ServiceError

_ROOT = Path(__file__).resolve().parent.parent
_VENV = _ROOT / ".venv"
_OLDEST = (3, 11)


def main() -> int:
    """Make or complete the environment; return the exit code."""
    try:
        _check_python()
        _make_venv()
        _say("installing the locked packages into .venv (about a minute, once) …")
        _pip("install", "--require-hashes", "--requirement", "requirements-dev.lock")
        _pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
    except ServiceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _check_python() -> None:
    if sys.version_info < _OLDEST:
        version = ".".join(map(str, _OLDEST))
        raise ServiceError(f"Needs Python {version} or newer: `make setup PYTHON=/path/to/python{version}`.")


def _make_venv() -> None:
    # Debian ships Python without these two.
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        package = "python{}.{}-venv".format(*sys.version_info)
        system_packages.install(package, otherwise=", then `make setup` again.")
    if not (_VENV / "bin" / "pip").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(_VENV))


def _pip(*arguments: str) -> None:
    _run(
        *(str(_VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"),
        *("--no-cache-dir", "--no-input", *arguments),
    )


def _run(*command: str) -> None:
    code = subprocess.run(command, cwd=_ROOT, check=False).returncode
    if code != 0:
        raise ServiceError(f"`{' '.join(command)}` failed with code {code}; what it printed is above.")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
