#!/bin/sh
# Do what a stranger does: clone into an empty folder, `make setup` with the interpreter's own pip, `make demo`.
# Fails if any of it leaves a file in the home folder or in the folder of temporary files; both are empty ones here.
set -eu
cd "$(dirname "$0")/.."

# By path: a wrapper on the PATH may look for its interpreters in the home folder.
name=$(command -v python3.11 || command -v python3)
python=$("$name" -c 'import sys; print(sys.executable)')

folder=$(mktemp -d)
chmod 711 "$folder" # the services that run as users of their own come through
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/home"
mkdir -m 1777 "$folder/tmp"

git clone --quiet --no-hardlinks . "$folder/clone"
# pip asks `rustc` for its version, and the one of rustup then writes its settings: not ours to prevent.
export HOME="$folder/home" TMPDIR="$folder/tmp" RUSTUP_HOME="$folder/rustup"
unset PIP_CACHE_DIR XDG_CACHE_HOME XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME VIRTUAL_ENV PYTHONPATH
make -C "$folder/clone" --no-print-directory demo PYTHON="$python"

left=$(find "$folder/home" "$folder/tmp" -mindepth 1)
if [ -n "$left" ]; then
    printf 'Error: a set-up and a demo left these behind:\n%s\n' "$left" >&2
    exit 1
fi
echo "  a fresh clone was set up, its demo ran, and nothing is left behind" >&2
