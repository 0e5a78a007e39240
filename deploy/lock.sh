#!/bin/sh
# Write the lock files anew: every package with its version and hashes, for every platform, and no index in them.
# Versions stay as they are where they still fit; `deploy/lock.sh --upgrade` takes the newest.
set -eu
cd "$(dirname "$0")/.."

upgrade=${1-}

compile() {
    .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --no-config --quiet $upgrade "$@"
}

compile pyproject.toml --extra postgres --output-file requirements.lock
compile pyproject.toml --extra postgres --group dev --constraints requirements.lock --output-file requirements-dev.lock
echo "hatchling" | compile - --constraints requirements-dev.lock --output-file deploy/build.lock

if grep -nE '://|file:|^-' requirements.lock requirements-dev.lock deploy/build.lock; then
    echo "Error: a lock file names an index or a local path; see the lines above." >&2
    exit 1
fi
