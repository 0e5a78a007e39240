"""npm's AsyncAPI parser, as the one file that its browser build is: no dependencies, half a megabyte to fetch.

It is fetched once and kept in the virtual environment. npm finds the registry by its own configuration; what came is
compared with the digest below, so it does not matter from where.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

VERSION = "3.6.3"
SHA512 = "MUC8xIUMcS2qNvqrqyx/ie0txu3d/OdIsrXs7UCzawdyR6P07gh35DpOqPz/z57s1UA3vERVpcheZYl3h8cVtw=="
MEMBER = "package/browser/index.js"
SCRIPT = Path(__file__).with_name("check_asyncapi.cjs")


def find_problems(*documents: str) -> list[list[str]]:
    """Return what the parser finds wrong with each document, with its place; nothing where it is valid."""
    command = [_tool("node"), str(SCRIPT), str(ensure_parser())]
    done = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def ensure_parser() -> Path:
    """Return the parser's file; fetch it where it is missing."""
    bundle = Path(sys.prefix) / "share/asyncapi-parser" / VERSION / "index.js"
    if not bundle.exists():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
            part = Path(folder) / "index.js"
            part.write_bytes(_read_bundle(_fetch(Path(folder))))
            part.replace(bundle)
    return bundle


def _fetch(folder: Path) -> Path:
    options = ["--ignore-scripts", "--logs-max=0", "--update-notifier=false"]
    places = ["--cache", str(folder / "cache"), "--pack-destination", str(folder)]
    command = [_tool("npm"), "pack", f"@asyncapi/parser@{VERSION}", *options, *places]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    [archive] = folder.glob("*.tgz")
    return archive


def _read_bundle(archive: Path) -> bytes:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert digest == SHA512, f"npm brought another @asyncapi/parser {VERSION} than the one that is pinned"
    with tarfile.open(archive) as opened:
        member = opened.extractfile(MEMBER)
        assert member is not None
        return member.read()


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(
            f'{name} is missing: run `make test ARGS="..."`, which installs what the tests need.', pytrace=False
        )
    return found
