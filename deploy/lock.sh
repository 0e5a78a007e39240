#!/bin/sh
# Write the lock files again: every package with its version, extras and hashes, for every platform, and no index.
# Versions stay as they are where they still fit; `deploy/lock.sh --upgrade` takes the newest.
# No lock is written unless all of them pass deploy/check_locks.py and the largest of them installs.
set -eu
cd "$(dirname "$0")/.."

upgrade=${1-}
folder=$(mktemp -d .venv/lock-XXXXXX)
trap 'rm -rf "$folder"' EXIT
export UV_CACHE_DIR="$PWD/$folder/cache" UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never

mkdir "$folder/deploy"
for lock in requirements.lock requirements-dev.lock deploy/build.lock deploy/installer.lock; do
    [ ! -e "$lock" ] || cp "$lock" "$folder/$lock"
done

compile() {
    output=$1
    shift
    .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-annotate \
        --no-header --no-emit-index-url --no-emit-find-links --quiet $upgrade --output-file "$folder/$output" "$@"
}

compile requirements.lock pyproject.toml --extra postgres
compile requirements-dev.lock pyproject.toml --extra postgres --group dev --constraints "$folder/requirements.lock"
echo "hatchling" | compile deploy/build.lock - --constraints "$folder/requirements-dev.lock"
echo "uv" | compile deploy/installer.lock - --constraints "$folder/requirements-dev.lock"

.venv/bin/uv pip install --quiet --python .venv/bin/python --target "$folder/site" --require-hashes \
    --requirement "$folder/requirements-dev.lock"
if ! .venv/bin/python deploy/check_locks.py --locks "$folder" --installed "$folder/site"; then
    echo "The lock files stay as they were." >&2
    exit 1
fi

for lock in requirements.lock requirements-dev.lock deploy/build.lock deploy/installer.lock; do
    mv "$folder/$lock" "$lock"
done
