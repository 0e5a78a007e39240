#!/bin/sh
# pytest-xdist 3.8.0 with pytest 9.2.0, `pytest -n 2 --dist loadgroup`, eight tests marked `xdist_group("one")`.
#
# Expected: one process runs all tests of a group, as `--dist loadgroup` is documented to do and does with pytest 9.1.0.
# Seen: with pytest 9.2.0 the group is spread over both processes, without an error or a warning. pytest-xdist writes the
# group into an item's private `_nodeid`, which pytest 9.2.0 no longer reads.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

cat >test_group.py <<'END'
import os
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_where(number):
    with open("seen", "a") as seen:
        seen.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
    time.sleep(0.2)
END

processes() {
    python3.11 -m venv "env-$1"
    "env-$1/bin/python" -m pip install --quiet "pytest==$1" pytest-xdist==3.8.0 >&2
    rm -f seen
    "env-$1/bin/python" -m pytest -q -n 2 --dist loadgroup -p no:cacheprovider >"log-$1" || { cat "log-$1" >&2; exit 1; }
    sort -u seen | wc -l
}

before=$(processes 9.1.0)
after=$(processes 9.2.0)
echo "processes that ran the group: pytest 9.1.0: $before, pytest 9.2.0: $after"
[ "$before" -eq 1 ] && [ "$after" -eq 2 ]
