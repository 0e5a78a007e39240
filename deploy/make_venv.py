"""Make ``.venv`` with everything in it: ``python3.11 deploy/make_venv.py``, called by ``make setup``.

Needs nothing but Python. Every package comes from a lock file and is checked against its hash; the project itself is
installed in place, so that an edit needs no new installation. Downloads are kept in ``.venv`` while they are needed:
nothing is left outside the clone.

The pip that the interpreter brings installs one package, uv, from a lock of its own; uv then installs the rest. So what
is installed does not depend on which pip that is: uv has no dependencies, and any pip can check one hash. It is also
ten times as fast.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import system_packages
from child_processes import ServiceError
from stages import Stages, folder_bytes
from uv_environment import make_environment

_ROOT = Path(__file__).resolve().parent.parent
_VENV = _ROOT / ".venv"
_CACHE = _VENV / "downloads"
_PYTHON = str(_VENV / "bin" / "python")
_LOCK = _ROOT / "requirements-dev.lock"
_OLDEST = (3, 11)


def main() -> int:
    """Make or complete the environment; return the exit code."""
    stages = Stages(_ROOT)
    try:
        _check_python()
        _make_venv(stages)
        _install_uv(stages)
        _install_packages(stages)
    except ServiceError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; `make setup` goes on from here.", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(_CACHE, ignore_errors=True)
    return 0


def _check_python() -> None:
    if sys.version_info < _OLDEST:
        version = ".".join(map(str, _OLDEST))
        raise ServiceError(f"Needs Python {version} or newer: `make setup PYTHON=/path/to/python{version}`.")


def _make_venv(stages: Stages) -> None:
    # Debian ships Python without these two.
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        package = "python{}.{}-venv".format(*sys.version_info)
        system_packages.install(package, otherwise=", then `make setup` again.")
    if not (_VENV / "bin" / "pip").exists():
        stages.say(f"making .venv with Python {platform.python_version()}; about 100 MB will be fetched, once")
        stages.run(sys.executable, "-m", "venv", "--clear", str(_VENV))


def _install_uv(stages: Stages) -> None:
    stages.say("installing uv, which installs the rest")
    stages.run(
        *(_PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-input", "install"),
        *("--require-hashes", "--requirement", "deploy/installer.lock"),
    )


def _install_packages(stages: Stages) -> None:
    uv = str(_VENV / "bin" / "uv")
    environment = make_environment(os.environ, pip_config=_pip_config(), cache=_CACHE)
    entries = sum("==" in line for line in _LOCK.read_text(encoding="utf-8").splitlines())
    stages.say(f"installing {entries} packages, each checked against its hash")
    install = (uv, "pip", "install", "--python", _PYTHON)
    stages.run(
        *(*install, "--require-hashes", "--requirement", _LOCK.name), environment=environment, progress=_downloaded
    )
    stages.run(*(*install, "--no-deps", "--no-build-isolation", "--editable", "."), environment=environment)
    stages.say(".venv is ready")


def _pip_config() -> str:
    command = [_PYTHON, "-m", "pip", "config", "list"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def _downloaded() -> str:
    """Say how much is there; the index tells nobody how much it will be."""
    return f"{folder_bytes(_CACHE) / 1_000_000:.0f} MB are here, unpacked"


if __name__ == "__main__":
    sys.exit(main())
