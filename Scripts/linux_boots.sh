#!/usr/bin/env bash
# Debian's kernel to its session in Samples/linux and off: recorded twice, which must be the same bytes, and replayed.
# Usage: linux_boots.sh TRACECTL CPUS [WORDS OF THE COMMAND LINE...]     status 1 where anything differs
set -euo pipefail
tracectl=$(realpath "$1") cpus=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/Scripts/fetch-linux.sh"
"$root/Samples/linux/build.sh" "$root/.build-linux/busybox" "$work/initrd.gz"
record() {
    "$tracectl" record --kernel "$root/.build-linux/vmlinuz" --initrd "$work/initrd.gz" --memory 256M --cpus "$cpus" \
        --append "console=ttyS0 quiet $*" --max-instructions 40000000000 -o "$work/$trace.vmtrace" >"$work/$trace.txt"
}
trace=first record "$@" &
trace=second record "$@"
wait
tr -d '\r' <"$work/first.txt" | grep '^session'
grep -qa '^session: done' "$work/first.txt"
tail -n 2 "$work/first.txt"
cmp "$work/first.vmtrace" "$work/second.vmtrace"
echo "twice the same bytes"
"$tracectl" replay "$work/first.vmtrace"
