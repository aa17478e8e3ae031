#!/bin/sh
# Fuzzes what reads traces, what reads a shim's records, and the soft backend with random guests, all under the address
# sanitizer, after a canary that must crash.
# Usage: Scripts/fuzz.sh [RUNS]          inputs for each of the three (default 100000); 0 builds them and tries the seeds
# OPTIMIZATION=-Onone builds in half of the time.
# A crash leaves its input in the build folder's `fuzz` and prints the command that replays it.
set -eu
runs=${1:-100000}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
# A crash must end the process, not start a debugger that holds the pipe.
export SWIFT_BACKTRACE=enable=no

echo "fuzz: building"
flags="-c release -Xswiftc -enable-testing"
# shellcheck disable=SC2086
[ -n "${BUILT:-}" ] || swift build $flags --target TraceFile >/dev/null
# shellcheck disable=SC2086
products=${BUILT:-$(swift build $flags --show-bin-path)}
out=$products/fuzz
mkdir -p "$out"
system=$(dirname "$(find "$root/.build/checkouts/swift-system" -path '*CSystem/include/module.modulemap' | head -1)")
flags="${OPTIMIZATION:--O -g} -swift-version 6 -parse-as-library -package-name exit_tracer -sanitize=address,fuzzer
    -enable-upcoming-feature MemberImportVisibility -enable-upcoming-feature InternalImportsByDefault
    -I $out -I $products/Modules -I $system"
for door in CZydis/module.modulemap CWriteTracking/include/module.modulemap CZstd/module.modulemap CXXHash/module.modulemap CSQLite/module.modulemap CRing/include/module.modulemap; do
    flags="$flags -Xcc -fmodule-map-file=$root/Sources/$door"
done
# compile MODULE OBJECT SOURCE...
compile() {
    module=$1 object=$2
    shift 2
    # shellcheck disable=SC2086
    swiftc $flags -emit-module -emit-module-path "$out/$module.swiftmodule" -module-name "$module" -wmo -c "$@" \
        -o "$out/$object.o"
}
# link PROGRAM OBJECT...
link() {
    program=$1
    shift
    # shellcheck disable=SC2046
    swiftc -sanitize=address,fuzzer -use-ld=lld "$@" \
        $(find "$products/SystemPackage.build" "$products/CSystem.build" -name '*.o') -lzstd -lxxhash -lsqlite3 -lZydis -o "$out/$program"
}
compile NVMM NVMM Sources/NVMM/*.swift
compile Database Database Sources/Database/*.swift
compile TraceFile TraceFile -enable-testing Sources/TraceFile/*.swift
compile TraceReaderFuzz TraceReaderFuzz Fuzz/TraceReader/*.swift
link TraceReaderFuzz "$out/TraceReaderFuzz.o" "$out/TraceFile.o" "$out/NVMM.o" "$out/Database.o"
compile Tracer RecordImportFuzz Sources/Tracer/*.swift Fuzz/RecordImport/*.swift
clang -O1 -g -fsanitize=address,fuzzer-no-link -I Sources/CRing/include -c Sources/CRing/ring.c -o "$out/ring.o"
link RecordImportFuzz "$out/RecordImportFuzz.o" "$out/TraceFile.o" "$out/NVMM.o" "$out/Database.o" "$out/ring.o"
compile SoftBackend SoftBackend Sources/SoftBackend/*.swift
compile GuestFuzz GuestFuzz Fuzz/Guest/*.swift
objects=
for source in Sources/CWriteTracking/*.c; do
    object=$out/$(basename "$source" .c).o
    clang -O1 -g -fsanitize=address,fuzzer-no-link -I Sources/CWriteTracking/include -c "$source" -o "$object"
    objects="$objects $object"
done
# shellcheck disable=SC2086
link GuestFuzz "$out/GuestFuzz.o" "$out/SoftBackend.o" "$out/NVMM.o" $objects
compile CanaryFuzz CanaryFuzz Fuzz/Canary/*.swift
link CanaryFuzz "$out/CanaryFuzz.o"

echo "fuzz: the canary must crash"
if "$out/CanaryFuzz" -runs=2000000 -seed=1 -artifact_prefix="$out/canary-" >"$out/canary.log" 2>&1; then
    echo "fuzz: the canary did not crash: this fuzzing proves nothing" >&2
    exit 1
fi

# The sanitizer's own shadow and quarantine count in the resident size; the bound on what a reader allocates is
# malloc_limit_mb for one block and rss_limit_mb for all of it together with them.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:quarantine_size_mb=1:malloc_context_size=4:detect_leaks=0"
# fuzz PROGRAM SEEDS...: folders of inputs to begin with; new ones are kept in a folder of the program's own.
fuzz() {
    program=$1
    shift
    mkdir -p "$out/$program.corpus"
    echo "fuzz: $program, $runs inputs"
    if ! "$out/$program" -runs="$runs" -seed=1 -max_len=65536 -timeout=20 \
        -malloc_limit_mb="${MALLOC_LIMIT_MB:-16}" -rss_limit_mb="${RSS_LIMIT_MB:-160}" -print_final_stats=1 \
        -artifact_prefix="$out/crash-$program-" "$out/$program.corpus" "$@" >"$out/$program.log" 2>&1
    then
        tail -30 "$out/$program.log" >&2
        echo "fuzz: failed; replay with $out/$program $out/crash-$program-..." >&2
        exit 1
    fi
    grep -E '^stat::' "$out/$program.log"
}
mkdir -p "$out/TraceReader.seeds" "$out/RecordImport.seeds"
VMTRACE_SEEDS="$out/TraceReader.seeds" VMTRACE_CORPUS="$root/Samples/corpus/reads" "$out/TraceReaderFuzz"
cp Tests/Interposer/*.raw "$out/RecordImport.seeds"
fuzz TraceReaderFuzz "$out/TraceReader.seeds" "$root/Samples/corpus/reads"
fuzz RecordImportFuzz "$out/RecordImport.seeds"
# A machine has rooms of its own for code and its translations, whatever the guest: that is what is bounded here.
mkdir -p "$out/Guest.seeds"
cp Samples/guests/*.bin "$out/Guest.seeds"
MALLOC_LIMIT_MB=32 RSS_LIMIT_MB=512 fuzz GuestFuzz "$out/Guest.seeds"
