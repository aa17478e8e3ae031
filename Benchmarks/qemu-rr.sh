#!/usr/bin/env bash
# QEMU's own record/replay on the same firmware and disk: wall-clock time of each and the size of its log.
# Usage: Benchmarks/qemu-rr.sh FIRMWARE DISK       prints one line of key=value; nothing where QEMU is missing.
# The guest has to end by itself: the disk writes to port 0xf4, which isa-debug-exit turns into the end of QEMU.
set -euo pipefail
firmware=$1
disk=$2
command -v qemu-system-x86_64 >/dev/null || { echo "qemu=missing"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run MODE: seconds on stdout; plain is without -icount.
run() {
    local begin=$EPOCHREALTIME counting=(-icount "shift=auto,rr=$1,rrfile=$work/log")
    [ "$1" != plain ] || counting=()
    timeout 120 qemu-system-x86_64 -accel tcg -machine pc -m 64 -display none -nodefaults -no-reboot \
        "${counting[@]}" -bios "$firmware" \
        -drive "file=$disk,format=raw,if=none,id=image,snapshot=on" \
        -drive driver=blkreplay,if=none,image=image,id=replayed -device ide-hd,drive=replayed \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -serial "file:$work/serial.$1" >/dev/null 2>"$work/errors" || true
    awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'
}
plain=$(run plain)
record=$(run record)
bytes=$(stat -c %s "$work/log" 2>/dev/null || echo 0)
replay=$(run replay)
same=no
[ -s "$work/serial.record" ] && cmp -s "$work/serial.record" "$work/serial.replay" && same=yes
version=$(qemu-system-x86_64 --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
echo "qemu=$version plain_seconds=$plain record_seconds=$record replay_seconds=$replay log_bytes=$bytes same_serial_output=$same"
