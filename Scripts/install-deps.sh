#!/usr/bin/env bash
# Installs what building and testing need. Safe to run again: does nothing where nothing is missing.
# Swift itself (6.3) is expected to be there: https://www.swift.org/install/linux/
set -euo pipefail

# What the libraries need, then what only the tests, the samples and the benchmarks need.
packages=(
    make pkg-config libzstd-dev libzydis-dev libxxhash-dev libsqlite3-dev
    chromium python3-websocket python3-yaml slurm-wlm munge
    nasm seabios qemu-system-x86 gdb strace python3 python3-venv python3-zstandard python3-xxhash zstd
)

if ! command -v swift >/dev/null 2>&1; then
    echo "swift is not on PATH: install Swift 6.3 from https://www.swift.org/install/linux/" >&2
    exit 2
fi

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
    cat >&2 <<TEXT
This system has no apt. On Debian and Ubuntu this script would install:
  ${packages[*]}
Install what your system calls the same (headers and libraries of zstd, Zydis 4.0 and xxHash 0.8 to build;
the others for tests, where a missing one is a named skip), then go on with: make test
TEXT
    # Where the headers are there already, there is nothing to stop for.
    pkg-config --exists libzstd libxxhash 2>/dev/null || exit 2
    exit 0
fi

# Perfetto's own definition of its traces, and DuckDB, from PyPI, for the tests of exports: in a folder of the project's.
python=$(dirname "$0")/../.build-python
add_from_pypi() {
    [ -x "$python/bin/python" ] && "$python/bin/python" -c 'import perfetto, duckdb' 2>/dev/null && return
    if python3 -m venv "$python" && "$python/bin/pip" install -q --disable-pip-version-check perfetto==0.59.1 duckdb==1.4.2; then
        echo "dependencies: installed perfetto and duckdb from PyPI in .build-python"
    else
        echo "dependencies: no perfetto and duckdb from PyPI: the tests of exports to Perfetto and Parquet will be skipped" >&2
    fi
}

# Debian's kernel and busybox, for tests and samples that boot Linux: in a folder of the project's.
add_linux() {
    "$(dirname "$0")/fetch-linux.sh" ||
        echo "dependencies: no linux-image-amd64 and busybox-static from apt: the tests that boot Linux will be skipped" >&2
}

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "dependencies: all ${#packages[@]} packages are installed"
    add_from_pypi
    add_linux
    exit 0
fi

run=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "missing: ${missing[*]}; run as root: apt-get install ${missing[*]}" >&2
        exit 2
    fi
    run=(sudo)
fi
echo "dependencies: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get update -qq
"${run[@]}" apt-get install -y --no-install-recommends "${missing[@]}"
add_from_pypi
add_linux
