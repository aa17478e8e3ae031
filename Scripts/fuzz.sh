#!/bin/sh
# Fuzzes the trace reader under the address sanitizer, after a canary that must crash.
# Usage: Scripts/fuzz.sh [RUNS]          (default 100000)
# A crash leaves its input in the build folder's `fuzz` and prints the command that replays it.
set -eu
runs=${1:-100000}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
# A crash must end the process, not start a debugger that holds the pipe.
export SWIFT_BACKTRACE=enable=no

echo "fuzz: building"
swift build -c release --target TraceFile >/dev/null
products=$(swift build -c release --show-bin-path)
out=$products/fuzz
mkdir -p "$out/seeds" "$out/corpus"
system=$(dirname "$(find "$root/.build/checkouts/swift-system" -path '*CSystem/include/module.modulemap' | head -1)")
flags="-O -g -swift-version 6 -parse-as-library -package-name exit_tracer -sanitize=address,fuzzer
    -enable-upcoming-feature MemberImportVisibility -enable-upcoming-feature InternalImportsByDefault"
# shellcheck disable=SC2086
swiftc $flags -emit-module -emit-module-path "$out/NVMM.swiftmodule" -module-name NVMM -wmo -c \
    Sources/NVMM/*.swift -o "$out/NVMM.o"
# shellcheck disable=SC2086
swiftc $flags -module-name TraceFile -wmo -c -I "$out" -I "$products/Modules" -I "$system" \
    -Xcc -fmodule-map-file="$root/Sources/CZstd/module.modulemap" \
    -Xcc -fmodule-map-file="$root/Sources/CXXHash/module.modulemap" \
    Sources/TraceFile/*.swift Fuzz/TraceReader/*.swift -o "$out/TraceReaderFuzz.o"
# shellcheck disable=SC2046
swiftc -sanitize=address,fuzzer -use-ld=lld "$out/TraceReaderFuzz.o" "$out/NVMM.o" \
    $(find "$products/SystemPackage.build" "$products/CSystem.build" -name '*.o') \
    -lzstd -lxxhash -o "$out/TraceReaderFuzz"
# shellcheck disable=SC2086
swiftc $flags -module-name CanaryFuzz -wmo -c Fuzz/Canary/*.swift -o "$out/CanaryFuzz.o"
swiftc -sanitize=address,fuzzer -use-ld=lld "$out/CanaryFuzz.o" -o "$out/CanaryFuzz"

echo "fuzz: the canary must crash"
if "$out/CanaryFuzz" -runs=2000000 -seed=1 -artifact_prefix="$out/canary-" >"$out/canary.log" 2>&1; then
    echo "fuzz: the canary did not crash: this fuzzing proves nothing" >&2
    exit 1
fi

VMTRACE_SEEDS="$out/seeds" VMTRACE_CORPUS="$root/Samples/corpus/reads" "$out/TraceReaderFuzz"
echo "fuzz: $runs inputs"
# The sanitizer's own shadow and quarantine count in the resident size; the bound on what the reader allocates is
# malloc_limit_mb for one block and rss_limit_mb for all of it together with them.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:quarantine_size_mb=1:malloc_context_size=4:detect_leaks=0"
if ! "$out/TraceReaderFuzz" -runs="$runs" -seed=1 -max_len=65536 -timeout=20 \
    -malloc_limit_mb="${MALLOC_LIMIT_MB:-16}" -rss_limit_mb="${RSS_LIMIT_MB:-160}" -print_final_stats=1 \
    -artifact_prefix="$out/crash-" "$out/corpus" "$out/seeds" "$root/Samples/corpus/reads" >"$out/fuzz.log" 2>&1
then
    tail -30 "$out/fuzz.log" >&2
    echo "fuzz: failed; replay with $out/TraceReaderFuzz $out/crash-..." >&2
    exit 1
fi
grep -E '^stat::' "$out/fuzz.log"
