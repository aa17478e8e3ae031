#!/usr/bin/env bash
# What recording clients of /dev/kvm costs, in time and in bytes for each exit, beside what else could have watched
# them: plain and recorded runs in turns, as median ratios. Skips by name what this host does not offer.
# Usage: Benchmarks/kvm.sh TRACECTL [--quick]
set -euo pipefail
cd "$(dirname "$0")/.."
tracectl=$1
rounds=5
exits=100000
[ "${2:-}" != --quick ] || { rounds=3; exits=20000; }
if ! { [ -r /dev/kvm ] && [ -w /dev/kvm ]; }; then
    echo "  skipped: needs /dev/kvm"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -std=gnu11 -O2 Tests/Interposer/kvm_client.c -pthread -o "$work/kvm_client"
cp Samples/guests/bootdisk.bin "$work/disk.img"

source Benchmarks/timing.sh
# measure TARGET_EXITS TARGET_REPLAY: all of them on $client.
measure() {
    compare "recorded at level exits" "$1" "$tracectl" record --level exits -o "$work/log" --
    "$tracectl" info "$work/log" | sed -n 's/^bytes per exit/    &/p; s/^exits:/    &/p'
    compare "recorded at level replay" "$2" "$tracectl" record -o "$work/log" --
    "$tracectl" info "$work/log" | sed -n 's/^bytes per exit/    &/p; s/^exits:/    &/p'
    if command -v strace >/dev/null; then
        compare "strace -f -e trace=ioctl" "" strace -f -e trace=ioctl -o "$work/log"
    else
        echo "  skipped: needs strace"
    fi
    if command -v perf >/dev/null && perf record -q -e kvm:kvm_userspace_exit -o "$work/log" true 2>/dev/null; then
        compare "perf record -e kvm:kvm_userspace_exit" "" perf record -q -e kvm:kvm_userspace_exit -o "$work/log"
    else
        echo "  skipped: needs perf with the tracepoint kvm:kvm_userspace_exit"
    fi
}

echo "a client of our own that exits at nearly every instruction, $exits exits:"
client=("$work/kvm_client" Tests/Interposer/kvm_guest.bin "exits=$exits")
measure "" ""
# What a store of the client costs where memory is write-protected again before each run.
pages=16
for ((round = 0; round < rounds; round++)); do
    for stores in 0 $pages; do
        rm -f "$work"/log*
        seconds "$tracectl" record -o "$work/log" -- "${client[@]}" "stores=$stores" >>"$work/stores.$stores"
    done
done
awk -v a="$(median <"$work/stores.0")" -v b="$(median <"$work/stores.$pages")" -v n=$((exits * pages)) \
    'BEGIN { printf "  first stores to a page between runs: %.0f a second, %.2f us each\n", n / (b - a), (b - a) / n * 1e6 }'
if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "  skipped: needs qemu-system-x86_64"
    exit
fi
options=(-m 64 -display none -vga none -net none -monitor none -serial stdio -device isa-debug-exit,iobase=0xf4)
drive=(-drive "file=$work/disk.img,format=raw,if=ide,snapshot=on")
echo "QEMU on KVM, SeaBIOS and a disk by PIO:"
client=(qemu-system-x86_64 -accel kvm "${options[@]}" "${drive[@]}")
measure 1.05 1.25

echo "QEMU's own record and replay of the same disk, on TCG:"
for ((round = 0; round < rounds; round++)); do
    Benchmarks/qemu-rr.sh "${FIRMWARE:-/usr/share/seabios/bios.bin}" "$work/disk.img"
done >"$work/rr"
middle() { sed -n "s/.*$1=\([0-9.]*\).*/\1/p" "$work/rr" | median; }
plain=$(middle plain_seconds)
ratio() { awk -v a="$(middle "$1")" -v b="$plain" 'BEGIN { printf "%.3f", a / b }'; }
echo "  recorded: $(ratio record_seconds) times the plain run of $plain s, replayed: $(ratio replay_seconds) times," \
    "$(middle log_bytes) bytes"
