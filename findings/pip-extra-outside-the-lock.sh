#!/bin/sh
# pip 23.2.1, `pip install --require-hashes`, with a lock that pins coverage 7.6.9 and pytest-cov 6.0.0, which needs
# `coverage[toml]`.
#
# Expected: the pinned coverage satisfies the need; the extra adds nothing on Python 3.11, and all hashes are there.
# Seen: pip resolves `coverage[toml]` by itself to the newest coverage, and refuses it: "In --require-hashes mode, all
# requirements must have their versions pinned with ==. These do not: coverage[toml]>=7.5". The same lock installed
# until coverage had a newer release. With `coverage[toml]==7.6.9` in the lock it installs; so does today's lock with
# pip 26.0.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

python3.11 -m venv old
old/bin/python -m pip install --quiet pip==23.2.1
python3.11 -m venv new
new/bin/python -m pip install --quiet pip==26.0

old/bin/pip download --quiet --no-deps --dest wheels pytest-cov==6.0.0 coverage==7.6.9 pytest==8.3.4 pluggy==1.5.0 \
    iniconfig==2.0.0 packaging==24.2
for wheel in wheels/*.whl; do
    name=$(basename "$wheel" | sed -E 's/^([A-Za-z0-9_]+)-([0-9.]+)-.*/\1==\2/')
    echo "$name --hash=sha256:$(sha256sum "$wheel" | cut -c1-64)"
done >without-extra.lock
sed 's/^coverage==/coverage[toml]==/' without-extra.lock >with-extra.lock

installs() { "$1/bin/pip" install --quiet --dry-run --require-hashes --requirement "$2" >"$3" 2>&1; }

if installs old without-extra.lock refusal; then
    echo "changed: pip 23.2.1 takes a lock without the extra" >&2
    exit 1
fi
grep -q 'coverage\[toml\]>=7.5' refusal
installs old with-extra.lock log || { cat log >&2; exit 1; }
installs new without-extra.lock log || { cat log >&2; exit 1; }

echo "pip 23.2.1 without the extra in the lock: refused"
echo "pip 23.2.1 with coverage[toml]== in the lock: installs"
echo "pip 26.0 without the extra in the lock: installs"
