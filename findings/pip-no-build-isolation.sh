#!/bin/sh
# pip 26.0, `pip wheel` of a project whose build needs a package that the environment lacks.
#
# Expected: PIP_NO_BUILD_ISOLATION=1 means --no-build-isolation, so the build fails here; 0 leaves isolation on.
# Seen: the other way round. 1 builds in isolation and succeeds; 0 builds without isolation and fails.
# pip 23.2.1 does the same.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

python3 -m venv env
env/bin/python -m pip install --quiet pip==26.0
env/bin/python -m pip uninstall --quiet --yes setuptools
mkdir sample
cat >sample/pyproject.toml <<'END'
[build-system]
requires = ["flit_core==3.12.0"]
build-backend = "flit_core.buildapi"

[project]
name = "sample"
version = "1.0"
description = "An empty module."
END
touch sample/sample.py

builds() { PIP_NO_BUILD_ISOLATION=$1 env/bin/pip wheel --quiet --no-deps --wheel-dir "out-$1" ./sample >"log-$1" 2>&1; }

builds 1 || { echo "changed: 1 switches isolation off" >&2; cat log-1 >&2; exit 1; }
if builds 0; then
    echo "changed: 0 leaves isolation on" >&2
    exit 1
fi
grep -q flit_core log-0

echo "PIP_NO_BUILD_ISOLATION=1: built in isolation"
echo "PIP_NO_BUILD_ISOLATION=0: not isolated, cannot import flit_core"
