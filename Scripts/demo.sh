#!/usr/bin/env bash
# Records firmware booting a disk, replays it without a difference, then catches a backend with a wrong instruction.
# Usage: Scripts/demo.sh TRACECTL      The traces stay in Demo/; they hold the guest's memory.
set -euo pipefail
cd "$(dirname "$0")/.."
tracectl=$1
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}
disk=${DISK:-Samples/guests/bootdisk.bin}
fault=${FAULT:-adc-carry@100}
trace=Demo/seabios.vmtrace

mkdir -p Demo
rm -f Demo/*.vmtrace*
for file in "$firmware" "$disk"; do
    [ -r "$file" ] || { echo "demo: $file is missing: run Scripts/install-deps.sh" >&2; exit 2; }
done

# timed COMMAND...: runs it and leaves its wall-clock seconds in $seconds and its status in $status.
timed() {
    printf '\n$ tracectl %s\n' "$*"
    local begin=$EPOCHREALTIME
    status=0
    "$tracectl" "$@" || status=$?
    seconds=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }')
}

echo "== 1. Record: SeaBIOS boots a disk on the embedded backend"
timed record --firmware "$firmware" --disk "$disk" -o "$trace"
[ "$status" -eq 0 ] || { echo "demo: recording ended with status $status" >&2; exit 1; }
record_seconds=$seconds

echo
echo "== 2. What was recorded"
timed info "$trace"
[ "$status" -eq 0 ] || exit 1

echo
echo "== 3. Replay: every exit, register and page compared"
timed replay "$trace"
[ "$status" -eq 0 ] || { echo "demo: the replay ended with status $status" >&2; exit 1; }
replay_seconds=$seconds

echo
echo "== 4. The same trace on a backend that computes one instruction wrongly ($fault)"
timed replay "$trace" --fault "$fault"
fault_seconds=$seconds
[ "$status" -eq 1 ] || { echo "demo: status $status, and 1 was expected: the fault was not found" >&2; exit 1; }

echo
echo "recorded in $record_seconds s, replayed in $replay_seconds s, the fault found in $fault_seconds s (exit status 1)"
"$tracectl" info "$trace" | grep -E 'exits|bytes' || true
