"""Folders that are made once and kept: two runs at once, a kill, a failure."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kept_folder as module
import pytest
from kept_folder import kept_folder

# Fills half of the folder, says so, and waits to be killed.
HALF = """
import sys
from pathlib import Path
from kept_folder import kept_folder

def make(folder):
    (folder / "first").touch()
    print("half", flush=True)
    sys.stdin.read()

kept_folder("suite", make, home=Path(sys.argv[1]))
"""


def fill(folder: Path) -> None:
    (folder / "first").touch()
    (folder / "second").touch()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_of_several_that_ask_at_once_one_makes_the_folder(tmp_path):
    """The others wait for it, and all get the same complete one."""
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        fill(folder)

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: kept_folder("suite", make, home=tmp_path), range(8)))

    assert folders == {tmp_path / "suite"}
    assert names(tmp_path / "suite") == {"first", "second"}

    assert len(made) == 1


def test_what_a_kill_leaves_half_made_is_never_taken_and_is_removed(tmp_path):
    """The next call makes it anew, and nothing of the first attempt is left."""
    command = [sys.executable, "-c", HALF, str(tmp_path)]
    path = {"PYTHONPATH": str(Path(module.__file__).parent)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        assert not (tmp_path / "suite").exists()
        process.send_signal(signal.SIGKILL)
    kept_folder("suite", fill, home=tmp_path)

    assert names(tmp_path / "suite") == {"first", "second"}

    assert names(tmp_path) == {"suite", "suite.lock"}


def test_a_failure_leaves_no_folder(tmp_path):
    """The error is the caller's; the next call tries again."""

    def fail(folder: Path) -> None:
        (folder / "first").touch()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        kept_folder("suite", fail, home=tmp_path)

    assert names(tmp_path) == {"suite.lock"}


def test_a_kept_folder_is_not_made_again(tmp_path):
    """Its name says what is in it, so what is there is right."""
    first = kept_folder("suite", fill, home=tmp_path)
    second = kept_folder("suite", lambda folder: pytest.fail("made again"), home=tmp_path)

    assert first == second
