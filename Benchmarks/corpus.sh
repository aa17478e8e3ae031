#!/usr/bin/env bash
# What a corpus, a report, exports, a comparison and a minimization cost; medians. Needs nasm and SeaBIOS.
# Usage: Benchmarks/corpus.sh TRACECTL [--quick]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tracectl=$1
quick=${2:-}
rounds=5
[ -z "$quick" ] || rounds=3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=timing.sh
source "$here/timing.sh"

# often COMMAND...: the median of its times.
often() { for ((round = 0; round < rounds; round++)); do seconds "$@"; done | median; }
per_second() { awk -v n="$1" -v s="$2" 'BEGIN { printf "%.0f", n / s }'; }

Samples/corpus/build.sh "$tracectl" "$work/corpus" >"$work/built.txt" 2>/dev/null
list=$("$tracectl" corpus list "$work/corpus" --json)
traces=$(python3 -c 'import json, sys; print(len(json.loads(sys.argv[1])["traces"]))' "$list")
exits=$(python3 -c 'import json, sys; print(sum(t["steps"] for t in json.loads(sys.argv[1])["traces"]))' "$list")
echo "  $(head -n 1 "$work/built.txt"); $(tail -n 1 "$work/built.txt")"
one=$(often "$tracectl" corpus run "$work/corpus" --jobs 1)
two=$(often "$tracectl" corpus run "$work/corpus" --jobs 2)
cached=$("$tracectl" corpus run "$work/corpus" --cache "$work/cache" >/dev/null; often "$tracectl" corpus run "$work/corpus" --cache "$work/cache")
echo "  replayed with one job: $one s, $(per_second "$traces" "$one") traces/s, $(per_second "$exits" "$one") exits/s;" \
    "with two: $two s, $(awk -v a="$one" -v b="$two" 'BEGIN { printf "%.2f", a / b }') times as fast; from the cache $cached s"

# A million exits, with a few instructions between them.
cat >"$work/million.asm" <<'ASM'
bits 16
org 0x7c00
    mov ecx, 1000000
next:
    mov al, cl
    out 0x80, al
    inc ebx
    dec ecx
    jnz next
    hlt
ASM
nasm -f bin "$work/million.asm" -o "$work/million.bin"
for name in a b; do
    "$tracectl" record --guest "$work/million.bin" --max-exits 1000000 -o "$work/$name.vmtrace" >/dev/null 2>&1
done
echo "  a million exits, $(stat -c %s "$work/a.vmtrace") bytes: compared with another million in" \
    "$(often "$tracectl" diff "$work/a.vmtrace" "$work/b.vmtrace") s"
report=$(often "$tracectl" report "$work/a.vmtrace" -o "$work/report.html")
cat >"$work/open.py" <<'PYTHON'
import sys
from page import Page
with Page(sys.argv[1]) as page:
    print(", drawn %.0f ms after navigation began" % page.run("performance.now()"))
PYTHON
drawn=$(PYTHONPATH=$here/../Tests/Browser timeout 60 /usr/bin/python3 "$work/open.py" "$work/report.html" 2>/dev/null || true)
echo "  its report: $report s, $(stat -c %s "$work/report.html") bytes$drawn"
"$tracectl" record --guest Samples/guests/exits.bin -o "$work/exits.vmtrace" >/dev/null
exits=$("$tracectl" stats "$work/exits.vmtrace" --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["steps"]["count"])')
for format in jsonl csv sqlite perfetto; do
    time=$(often "$tracectl" export "$work/exits.vmtrace" --format $format -o "$work/out.$format")
    echo "  export of $exits exits to $format: $time s, $(per_second "$exits" "$time") exits/s, $(stat -c %s "$work/out.$format") bytes"
    rm -f "$work/out.$format"
done
"$tracectl" record --firmware "${FIRMWARE:-/usr/share/seabios/bios.bin}" --disk "${DISK:-Samples/guests/bootdisk.bin}" \
    -o "$work/boot.vmtrace" >/dev/null
for fault in lea-index adc-carry; do
    echo "  minimizing SeaBIOS with the fault $fault:" \
        "$("$tracectl" minimize "$work/boot.vmtrace" --fault $fault -o "$work/small.vmtrace" | tr -s ' ' | tr '\n' ';')"
done
