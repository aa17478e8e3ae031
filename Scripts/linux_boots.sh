#!/usr/bin/env bash
# A whole guest of Debian's, recorded twice, which must be the same bytes, and replayed, which must be identical.
# Usage: linux_boots.sh TRACECTL GUEST [CPUS]                 status 1 where anything differs or the guest did not end
#   kernel   Debian's kernel to the session of Samples/linux and off
#   virtio   the same, and then a virtio disk and console
#   grub     the same from a disk: SeaBIOS, GRUB's menu, kernel
#   memtest  memtest86+ to its first complete pass over 16 MiB
set -euo pipefail
tracectl=$(realpath "$1") guest=$2 cpus=${3:-1}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/Scripts/fetch-linux.sh"
linux=$root/.build-linux
modules=
[ "$guest" != virtio ] || modules=$linux/modules
"$root/Samples/linux/build.sh" "$linux/busybox" "$work/initrd.gz" "$modules"
case $guest in
    kernel | virtio)
        options=(--kernel "$linux/vmlinuz" --initrd "$work/initrd.gz" --append "console=ttyS0 quiet" --memory 256M)
        limit=40000000000 wanted='^session: done'
        if [ "$guest" = virtio ]; then
            seq 1 150000 >"$work/disk.img"
            printf '%s\n' 'to be echoed' end >"$work/input"
            options+=(--virtio-disk "$work/disk.img" --virtio-console --input "$work/input")
            wanted="^session: was told 'to be echoed'"
        fi ;;
    grub)
        "$root/Samples/linux/grub-disk.sh" "$linux/grub" "$linux/vmlinuz" "$work/initrd.gz" "$work/disk.img" \
            "console=ttyS0 quiet" >/dev/null
        options=(--firmware "${FIRMWARE:-/usr/share/seabios/bios.bin}" --disk "$work/disk.img" --cpu base-v3 --memory 256M)
        limit=40000000000 wanted='^session: done' ;;
    memtest)
        options=(--kernel "$linux/memtest86.bin" --append "console=ttyS0,115200 nosmp" --memory 16M)
        limit=200000000000 wanted='Pass:  1 ' ;;
    *) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;;
esac
record() {
    "$tracectl" record "${options[@]}" --cpus "$cpus" --max-instructions "$limit" -o "$work/$1.vmtrace" >"$work/$1.txt"
}
record first &
first=$!
record second
wait $first
tr -d '\r' <"$work/first.txt" | grep -a '^session' || true
tail -n 2 "$work/first.txt"
tr -d '\r' <"$work/first.txt" | grep -aq "$wanted" || { echo "the guest did not come to its end" >&2; exit 1; }
if [ "$guest" = grub ]; then
    grep -aq 'GNU GRUB' "$work/first.txt" || { echo "no menu of GRUB" >&2; exit 1; }
fi
cmp "$work/first.vmtrace" "$work/second.vmtrace"
echo "twice the same bytes"
"$tracectl" replay "$work/first.vmtrace"
