#!/usr/bin/env bash
# The runs that are too long for `make test`: oracles, boots of Linux, kill loop, random damage, fuzzing. Each prints one line.
#   ORACLE_SECONDS (3600)  random instructions against the oracles
#   KILL_ROUNDS (500)      recordings killed at a random moment and repaired
#   CLIENT_KILL_ROUNDS (500)  clients of libnvmm, their drainer, or both, killed at a random moment
#   QEMU_KILL_ROUNDS (200)  QEMU on KVM, its drainer, or both, killed at a random moment; needs /dev/kvm
#   FLIP_ROUNDS (10000)    random bit flips of a SeaBIOS trace, each verified
#   FUZZ_RUNS (1000000)     inputs for the reader's fuzzer
#   SEED (random)          printed, to repeat a run
set -euo pipefail
cd "$(dirname "$0")/.."
export SWIFT_BACKTRACE=enable=no
oracle_seconds=${ORACLE_SECONDS:-3600}
kill_rounds=${KILL_ROUNDS:-500}
client_kill_rounds=${CLIENT_KILL_ROUNDS:-500}
qemu_kill_rounds=${QEMU_KILL_ROUNDS:-200}
flip_rounds=${FLIP_ROUNDS:-10000}
fuzz_runs=${FUZZ_RUNS:-1000000}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "soak: seed $seed"

swift build -c release -Xswiftc -enable-testing
root=$PWD
tracectl=$PWD/.build/release/tracectl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}
disk=${DISK:-Samples/guests/bootdisk.bin}
failures=0

echo "== shards, 1 to 16 of each scheduler"
mkdir "$work/shards"
if (cd "$work/shards" && CASES=$root/Tests/Cases GUESTS=$root/Samples/guests ROOT=$root \
    PATH=$root/.build/release:$PATH SHARD_COUNTS=$(seq -s ' ' 1 16) \
    bash "$root/Tests/Cases/corpus-shards/run.sh" >stdout.txt 2>stderr.txt) &&
    diff "$work/shards/stdout.txt" Tests/Cases/corpus-shards/stdout; then
    echo "all the same as without shards"
else
    failures=$((failures + 1))
fi

echo "== oracles, $oracle_seconds s"
EXIT_TRACER_ORACLE_SECONDS=$oracle_seconds EXIT_TRACER_ORACLE_SEED=$seed \
    Scripts/test.sh --filter OracleTests >"$work/oracles.txt" 2>&1 || failures=$((failures + 1))
grep -E 'soak:|^failed|^did not end' "$work/oracles.txt" || true
tail -n 1 "$work/oracles.txt"

for guest in "kernel 1" "kernel 2" "virtio 1" "grub 1" "memtest 1"; do
    echo "== Debian's $guest, recorded twice and replayed"
    # Two words: which, and how many VCPUs.
    # shellcheck disable=SC2086
    Scripts/linux_boots.sh "$tracectl" $guest || failures=$((failures + 1))
done

echo "== kill loop, $kill_rounds rounds"
Scripts/kill_loop.sh "$tracectl" "$kill_rounds" "$seed" || failures=$((failures + 1))

echo "== killed clients, $client_kill_rounds rounds"
BUILT=$PWD/.build/release Scripts/install.sh "$work/prefix" >/dev/null
cc -std=c11 -O1 Tests/Interposer/io_client.c -I "$work/prefix/include" -L "$work/prefix/lib" -lnvmm -o "$work/io_client"
LD_LIBRARY_PATH=$work/prefix/lib NVMM_RUNTIME_DIR=$work/runtime \
    Scripts/kill_clients.sh "$tracectl" "$work/io_client" "$client_kill_rounds" "$seed" || failures=$((failures + 1))

echo "== killed QEMU on KVM, $qemu_kill_rounds rounds"
if [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ -n "$(command -v qemu-system-x86_64)" ]; then
    cp "$disk" "$work/disk.img"
    cat >"$work/qemu" <<END
#!/bin/sh
exec qemu-system-x86_64 -accel kvm -m 64 -display none -vga none -net none -monitor none -serial stdio \
    -device isa-debug-exit,iobase=0xf4 -drive file=$work/disk.img,format=raw,if=ide,snapshot=on 2>/dev/null
END
    chmod +x "$work/qemu"
    SPAN=6000 LAST_LINE='on the serial port' LAST_STATUS=1 \
        Scripts/kill_clients.sh "$tracectl" "$work/qemu" "$qemu_kill_rounds" "$seed" || failures=$((failures + 1))
else
    echo "skipped: needs /dev/kvm and qemu-system-x86_64"
fi

echo "== random bit flips, $flip_rounds rounds"
"$tracectl" record --firmware "$firmware" --disk "$disk" -o "$work/whole.vmtrace" >/dev/null
EXIT_TRACER_FLIP_TRACE=$work/whole.vmtrace EXIT_TRACER_FLIP_ROUNDS=$flip_rounds EXIT_TRACER_FLIP_SEED=$seed \
    Scripts/test.sh --filter BitFlipTests >"$work/flips.txt" 2>&1 || failures=$((failures + 1))
grep -E '^bit flips:|^failed|^did not end' "$work/flips.txt" || true

echo "== fuzzing, $fuzz_runs inputs"
Scripts/fuzz.sh "$fuzz_runs" || failures=$((failures + 1))
kept=$(swift build -c release -Xswiftc -enable-testing --show-bin-path)/fuzz
Scripts/peak_memory.py "$tracectl" 64 "$kept/TraceReaderFuzz.corpus" "$kept/TraceReader.seeds" Samples/corpus/reads ||
    failures=$((failures + 1))

echo "soak: $failures failed"
[ "$failures" -eq 0 ]
