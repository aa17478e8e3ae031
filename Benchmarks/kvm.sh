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

# seconds COMMAND...: wall-clock time.
seconds() {
    local begin=$EPOCHREALTIME
    "$@" >/dev/null 2>&1 || true
    awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.4f\n", b - a }'
}
median() { sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }
# compare NAME TARGET COMMAND...: the median of its times over the plain ones', each pair in one round; COMMAND is put
# before the client. What it leaves in $work/log is its size.
compare() {
    local name=$1 target=$2
    shift 2
    for ((round = 0; round < rounds; round++)); do
        plain=$(seconds "${client[@]}")
        rm -f "$work"/log*
        other=$(seconds "$@" "${client[@]}")
        awk -v a="$plain" -v b="$other" 'BEGIN { printf "%.3f %.4f\n", b / a, a }'
    done >"$work/pairs"
    local bytes=""
    [ ! -e "$work/log" ] || bytes=", $(stat -c %s "$work/log") bytes"
    echo "  $name: $(cut -d' ' -f1 "$work/pairs" | median) times the plain run of" \
        "$(cut -d' ' -f2 "$work/pairs" | median) s${target:+ (target $target)}$bytes"
}
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
if ! command -v qemu-system-x86_64 >/dev/null; then
    echo "  skipped: needs qemu-system-x86_64"
    exit
fi
options=(-m 64 -display none -vga none -net none -monitor none -serial stdio -device isa-debug-exit,iobase=0xf4)
drive=(-drive "file=$work/disk.img,format=raw,if=ide,snapshot=on")
echo "QEMU on KVM, SeaBIOS and a disk by PIO:"
client=(qemu-system-x86_64 -accel kvm "${options[@]}" "${drive[@]}")
measure 1.05 1.25
