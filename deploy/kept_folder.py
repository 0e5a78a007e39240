"""Folders that are made once, kept between runs, and never seen half made.

They lie in ``.debian`` of the checkout, not in the user's cache: git ignores it, ``make clean`` removes it, and nothing
is left outside the clone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / ".debian"


def kept_folder(name: str, make: Callable[[Path], None], *, home: Path = HOME) -> Path:
    """Return the folder of that name; make it first where it is missing.

    Of several processes that ask at the same time one makes it and the others wait. ``make`` fills a folder of another
    name, which gets its own name when it is complete: what a kill leaves half made is removed by the next call.

    Args:
        name: Says what is in the folder, its version included: a folder is never made again.
        make: Fills the empty folder that it is given.
        home: Where the folders lie.
    """
    folder = home / name
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f"{name}.lock"):
        if not folder.is_dir():
            _make(folder, make)
    return folder


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    prefix = f"{folder.name}.part-"
    for left_over in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    part.chmod(0o755)
    try:
        make(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file; the system releases it when the process ends, however it ends."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"  waiting for another run that makes {path.stem} …", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
