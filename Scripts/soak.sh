#!/usr/bin/env bash
# The runs that are too long for `make test`: oracles, kill loop, random damage, fuzzing. Each prints one line.
#   ORACLE_SECONDS (3600)  random instructions against the oracles
#   KILL_ROUNDS (500)      recordings killed at a random moment and repaired
#   FLIP_ROUNDS (10000)    random bit flips of a SeaBIOS trace, each verified
#   FUZZ_SECONDS (3600)    the reader's fuzzer
#   SEED (random)          printed, to repeat a run
set -euo pipefail
cd "$(dirname "$0")/.."
export SWIFT_BACKTRACE=enable=no
oracle_seconds=${ORACLE_SECONDS:-3600}
kill_rounds=${KILL_ROUNDS:-500}
flip_rounds=${FLIP_ROUNDS:-10000}
fuzz_seconds=${FUZZ_SECONDS:-3600}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "soak: seed $seed"

swift build -c release -Xswiftc -enable-testing
tracectl=$PWD/.build/release/tracectl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}
disk=${DISK:-Samples/guests/bootdisk.bin}
failures=0

echo "== oracles, $oracle_seconds s"
SOAK_SECONDS=$oracle_seconds SOAK_SEED=$seed Scripts/test.sh --filter OracleTests | tail -n 1 || failures=$((failures + 1))

echo "== kill loop, $kill_rounds rounds"
Scripts/kill_loop.sh "$tracectl" "$kill_rounds" "$seed" || failures=$((failures + 1))

echo "== random bit flips, $flip_rounds rounds"
"$tracectl" record --firmware "$firmware" --disk "$disk" -o "$work/whole.vmtrace" >/dev/null
python=/usr/bin/python3
[ -x "$python" ] || python=python3
"$python" Scripts/flip_bits.py "$tracectl" "$work/whole.vmtrace" "$flip_rounds" "$seed" || failures=$((failures + 1))

if [ -x Fuzz/run.sh ]; then
    echo "== fuzzing, $fuzz_seconds s"
    FUZZ_SECONDS=$fuzz_seconds Fuzz/run.sh || failures=$((failures + 1))
fi

echo "soak: $failures failed"
[ "$failures" -eq 0 ]
