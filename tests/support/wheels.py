"""The wheel of the project, and environments that hold nothing but it and what it needs."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.installers import UV, run

ROOT = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder and return its file."""
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), folder=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, environment: Path, *, python: str = sys.executable) -> Path:
    """Make an environment with the locked packages, each checked against its hash, and the wheel.

    Args:
        wheel: The project's wheel.
        environment: The folder to make.
        python: The interpreter that it is for.

    Returns:
        The environment's folder of commands.
    """
    cache = environment.with_name(f"{environment.name}-downloads")
    ours = ["--no-config", "--no-python-downloads", "--cache-dir", str(cache)]
    commands = environment / "bin"
    run(UV, "venv", *ours, "--python", python, str(environment))
    install = [UV, "pip", "install", *ours, "--python", str(commands / "python")]
    run(*install, "--require-hashes", "--requirement", str(ROOT / "requirements.lock"))
    run(*install, "--no-deps", str(wheel))
    return commands
