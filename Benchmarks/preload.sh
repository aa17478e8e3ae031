#!/usr/bin/env bash
# What recording by preload costs: a ring record, and clients of libnvmm recorded and not, in turns, as median ratios.
# Usage: Benchmarks/preload.sh TRACECTL [--quick]      BUILT: a folder with libnvmm.a
set -euo pipefail
cd "$(dirname "$0")/.."
tracectl=$1
rounds=5
exits=400000
[ "${2:-}" != --quick ] || { rounds=3; exits=50000; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
BUILT=${BUILT:-$(dirname "$tracectl")} Scripts/install.sh "$work/prefix" >/dev/null
cc -std=c11 -O2 -I Sources/CRing/include Benchmarks/ring_cost.c Sources/CRing/ring.c -pthread -o "$work/ring_cost"
cc -std=c11 -O2 Tests/Interposer/io_client.c -I "$work/prefix/include" -L "$work/prefix/lib" -lnvmm -o "$work/client"
export LD_LIBRARY_PATH=$work/prefix/lib NVMM_RUNTIME_DIR=$work/runtime

"$work/ring_cost"

source Benchmarks/timing.sh
for kind in disk exits; do
    if [ $kind = disk ]; then
        client=("$work/client" "$exits" disk "$work/disk")
        echo "a client that writes a block of 4 KiB at each exit, $exits exits:"
        targets=(1.15 1.5)
    else
        client=("$work/client" "$exits")
        echo "a client that does nothing but exit, $exits exits:"
        targets=("" "")
    fi
    compare "recorded at level exits" "${targets[0]}" "$tracectl" record --level exits -o "$work/log" --
    compare "recorded at level replay" "${targets[1]}" "$tracectl" record -o "$work/log" --
    # A tenth as many exits: what is slow enough needs no more.
    client[1]=$((exits / 10))
    if command -v strace >/dev/null; then
        compare "strace -f" "" strace -f -o "$work/log"
    fi
done
