"""pip as it came with older Pythons, kept in the virtual environment, and wheels of packages that nobody else has."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

UV = str(Path(sys.executable).with_name("uv"))
# The one that Python 3.11.0 brings.
_OLDEST_PIP = "22.3"
_OLDEST_PIP_SHA256 = "1daab4b8d3b97d1d763caeb01a4640a2250a0ea899e257b1e44b9eded91e15ab"


def ensure_oldest_pip() -> Path:
    """Return the folder that the oldest supported pip is in; fetch it where it is missing.

    It is compared with its digest, so it does not matter from where the index of this machine brings it.
    """
    folder = Path(sys.prefix) / "share/pip" / _OLDEST_PIP
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parts:
            lock, part = Path(parts) / "pip.lock", Path(parts) / "pip"
            lock.write_text(f"pip=={_OLDEST_PIP} --hash=sha256:{_OLDEST_PIP_SHA256}\n")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--require-hashes"]
            run(*command, "--requirement", str(lock), "--target", str(part))
            # Another process of the same run may have been quicker.
            if not folder.exists():
                part.rename(folder)
    return folder


def run(*command: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
    """Run a command that must succeed, in this process's environment and folder unless others are given."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=environment, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def without_configuration() -> dict[str, str]:
    """Return this process's environment in which neither pip nor uv finds a setting, a file or a cache of the user's."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "UV_NO_CONFIG": "1", "UV_NO_CACHE": "1"}


def write_wheel(folder: Path, name: str, version: str, *, metadata: Sequence[str] = ()) -> None:
    """Write the wheel of a package with one empty module.

    Args:
        folder: Where to; any installer takes it as an index with ``--find-links``.
        name: Name of package and module.
        version: Its version.
        metadata: Further lines of its METADATA, such as ``Requires-Dist: …``.
    """
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata])
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in [*wheel.namelist(), f"{info}/RECORD"]))
