#!/usr/bin/env bash
# Kills recordings with SIGKILL at random moments; what `repair` recovers must be sound and replay without a difference.
# Usage: Scripts/kill_loop.sh TRACECTL ROUNDS [SEED]
set -euo pipefail
cd "$(dirname "$0")/.."
tracectl=$1
rounds=$2
RANDOM=${3:-1}
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# How long a recording takes that nobody kills, in milliseconds.
begin=${EPOCHREALTIME/./}
"$tracectl" record --firmware "$firmware" -o "$work/a.vmtrace" >/dev/null
whole=$(((${EPOCHREALTIME/./} - begin) / 1000))
killed=0
bad=0
empty=0
least=-1
most=0
for ((round = 1; round <= rounds; round++)); do
    rm -f "$work"/*
    "$tracectl" record --firmware "$firmware" -o "$work/a.vmtrace" >/dev/null 2>&1 &
    writer=$!
    # From before the header to just after the end.
    pause=$((RANDOM % (whole + whole / 10 + 1)))
    sleep "$(printf '%d.%03d' $((pause / 1000)) $((pause % 1000)))"
    kill -KILL "$writer" 2>/dev/null && killed=$((killed + 1))
    wait "$writer" 2>/dev/null || true
    [ -s "$work/a.vmtrace" ] || continue
    if ! "$tracectl" repair "$work/a.vmtrace" -o "$work/b.vmtrace" >"$work/repair.txt" 2>&1; then
        # Killed before the header stood: nothing was recorded, and repair says so.
        grep -q "nothing was recorded" "$work/repair.txt" && continue
    fi
    # Killed before the first step: there is nothing to replay in a trace that is sound.
    if "$tracectl" verify "$work/b.vmtrace" >"$work/verify.txt" 2>&1 && grep -q ' 0 steps,' "$work/verify.txt"; then
        empty=$((empty + 1))
        continue
    fi
    if ! "$tracectl" verify "$work/b.vmtrace" >"$work/verify.txt" 2>&1 \
        || ! "$tracectl" replay "$work/b.vmtrace" >"$work/replay.txt" 2>&1; then
        bad=$((bad + 1))
        echo "round $round: not recovered"
        cat "$work"/*.txt
        continue
    fi
    steps=$("$tracectl" info "$work/b.vmtrace" --json | sed -n 's/.*"stepCount" : \([0-9]*\).*/\1/p' | head -n 1)
    steps=${steps:-0}
    [ "$least" -lt 0 ] || [ "$steps" -lt "$least" ] && least=$steps
    [ "$steps" -gt "$most" ] && most=$steps
done
echo "kill loop: $rounds rounds, $killed killed in time, $bad not recovered, $empty before the first step; steps recovered: $least to $most"
[ "$bad" -eq 0 ]
