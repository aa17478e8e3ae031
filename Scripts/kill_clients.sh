#!/usr/bin/env bash
# Kills recorded clients of libnvmm or /dev/kvm, their drainer, or both, with SIGKILL at random moments. Every trace must be
# readable to its last complete record and replay without a difference, and a client whose drainer died must go on.
# Usage: Scripts/kill_clients.sh TRACECTL CLIENT ROUNDS [SEED]
# CLIENT takes a number of exits (Tests/Interposer/io_client.c); LD_LIBRARY_PATH leads it to its libnvmm.
#   EXITS (150000)          that number
#   LAST_LINE (N exits)     what a client that came to its end has printed
#   LAST_STATUS (0)         and its status then
#   SPAN (300)              milliseconds within which somebody is killed
set -euo pipefail
tracectl=$1
client=$2
rounds=$3
RANDOM=${4:-1}
exits=${EXITS:-150000}
last_line=${LAST_LINE:-$exits exits}
last_status=${LAST_STATUS:-0}
span=${SPAN:-300}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
replayed=0
empty=0
fail() {
    bad=$((bad + 1))
    echo "round $round, $victim after $pause s: $1"
    cat "$work"/*.txt
}
for ((round = 1; round <= rounds; round++)); do
    rm -f "$work"/*
    victims=(client drainer both)
    victim=${victims[round % 3]}
    # From before the header to long past the first full ring.
    pause=$((RANDOM % span))
    pause=$(printf '%d.%03d' $((pause / 1000)) $((pause % 1000)))
    "$tracectl" record -o "$work/a.vmtrace" -- "$client" "$exits" >"$work/client.txt" 2>"$work/record.txt" &
    drainer=$!
    sleep "$pause"
    child=$(cat "/proc/$drainer/task/$drainer/children" 2>/dev/null || true)
    child=${child%% *}
    case $victim in
    client) [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true ;;
    drainer) kill -KILL "$drainer" 2>/dev/null || true ;;
    both) kill -KILL "$drainer" $child 2>/dev/null || true ;;
    esac
    status=0
    wait "$drainer" 2>/dev/null || status=$?
    if [ "$victim" = drainer ] && [ -n "$child" ]; then
        for ((tenths = 0; tenths < 300; tenths++)); do
            [ -d "/proc/$child" ] || break
            sleep 0.1
        done
        tr -d '\r' <"$work/client.txt" | grep -q "^$last_line$" || fail "the client did not go on to its end"
    fi
    whole=$work/a.vmtrace
    if compgen -G "$work/a.vmtrace.open.*" >/dev/null; then
        whole=$work/b.vmtrace
        if ! "$tracectl" repair "$work/a.vmtrace" -o "$whole" >"$work/repair.txt" 2>&1; then
            # Killed before anything was recorded: repair says so.
            if grep -q "nothing was recorded" "$work/repair.txt"; then empty=$((empty + 1)); continue; fi
        fi
    elif [ ! -e "$whole" ]; then
        # Killed before the client had made its machine.
        if [ "$victim" != client ] || grep -q "no trace came of the command" "$work/record.txt"; then
            empty=$((empty + 1))
            continue
        fi
    fi
    # A signal that ended the client is the status, or it had ended before.
    [ "$victim" != client ] || [ "$status" -eq 137 ] || [ "$status" -eq "$last_status" ] || fail "status $status"
    if ! "$tracectl" verify "$whole" >"$work/verify.txt" 2>&1; then
        fail "does not verify"
    elif [ "$("$tracectl" info "$whole" --json | sed -n 's/.*"stepCount" : \([0-9]*\).*/\1/p' | head -n 1)" = 0 ]; then
        empty=$((empty + 1))
    elif ! "$tracectl" replay "$whole" >"$work/replay.txt" 2>&1; then
        fail "does not replay"
    else
        replayed=$((replayed + 1))
    fi
done
echo "killed clients: $rounds rounds, $bad bad; replayed $replayed, nothing recorded yet $empty" >&2
[ "$bad" -eq 0 ]
