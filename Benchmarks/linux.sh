#!/usr/bin/env bash
# Debian's kernel to the session of Samples/linux and off: recorded and replayed here, and by QEMU on TCG without and with
# its instruction counter and its record/replay; then a short session from a disk with GRUB, beside Bochs. One run of each,
# one after the other: a run is a quarter of a minute, of Bochs a minute or two.
# Usage: Benchmarks/linux.sh TRACECTL [--quick]            --quick: a short session, no record/replay of QEMU, no Bochs
set -euo pipefail
tracectl=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/Scripts/fetch-linux.sh" || { echo "  no linux-image-amd64 from apt"; exit 0; }
"$root/Samples/linux/build.sh" "$root/.build-linux/busybox" "$work/initrd.gz"
line="console=ttyS0 quiet"
[[ " $* " != *" --quick "* ]] || line="$line forks=5 kib=64"
kernel=(-kernel "$root/.build-linux/vmlinuz" -initrd "$work/initrd.gz" -append "$line")

# What failed has no time.
seconds() {
    local begin=$EPOCHREALTIME
    "$@" >"$work/output.txt" 2>&1 || { echo "failed after some"; return; }
    awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}
record() {
    "$tracectl" record --kernel "$root/.build-linux/vmlinuz" --initrd "$work/initrd.gz" --append "$line" --memory 256M \
        --max-instructions 40000000000 -o "$work/linux.vmtrace"
}
qemu() {
    timeout 300 qemu-system-x86_64 -accel tcg "$@" -m 256 -display none -vga none -nodefaults -no-reboot \
        -serial "file:$work/serial.txt" "${kernel[@]}"
    grep -q '^session: done' "$work/serial.txt"
}
recorded=$(seconds record)
[[ $recorded != failed* ]] || { cat "$work/output.txt"; exit 1; }
instructions=$(sed -n 's/^recorded [0-9,]* exits, \([0-9,]*\) instructions.*/\1/p' "$work/output.txt" | tr -d ,)
exits=$(sed -n 's/^recorded \([0-9,]*\) exits.*/\1/p' "$work/output.txt" | tr -d ,)
bytes=$(stat -c %s "$work/linux.vmtrace")
replayed=$(seconds "$tracectl" replay "$work/linux.vmtrace")
awk -v i="$instructions" -v e="$exits" -v b="$bytes" -v r="$recorded" -v p="$replayed" 'BEGIN {
    printf "  recorded: %.1f s, %.2f G instructions, %.0f M instr/s, %d exits\n", r, i / 1e9, i / r / 1e6, e
    printf "  replayed: %.1f s, %.2f times the recording\n", p, p / r
    printf "  trace: %.1f MiB, %.0f bytes a million instructions\n", b / 1048576, b / (i / 1e6)
}'
command -v qemu-system-x86_64 >/dev/null || { echo "  no qemu-system-x86_64"; exit 0; }
echo "  QEMU TCG: plain $(seconds qemu) s"
echo "  QEMU TCG, -icount shift=auto: $(seconds qemu -icount shift=auto) s"
echo "  QEMU TCG, -icount shift=0,sleep=off: $(seconds qemu -icount shift=0,sleep=off) s"
[[ " $* " != *" --quick "* ]] || exit 0
echo "  QEMU TCG records: $(seconds qemu -icount "shift=auto,rr=record,rrfile=$work/log") s," \
    "log $(awk -v b="$(stat -c %s "$work/log")" 'BEGIN { printf "%.1f", b / 1048576 }') MiB"
echo "  QEMU TCG replays: $(seconds qemu -icount "shift=auto,rr=replay,rrfile=$work/log") s"

# Bochs has no boot protocol of Linux's: both boot by GRUB from a disk.
command -v bochs >/dev/null || { echo "  no bochs"; exit 0; }
"$root/Samples/linux/grub-disk.sh" "$root/.build-linux/grub" "$root/.build-linux/vmlinuz" "$work/initrd.gz" "$work/disk.img" \
    "$line forks=5 kib=64" >"$work/output.txt" 2>&1
from_disk() {
    "$tracectl" record --firmware "${FIRMWARE:-/usr/share/seabios/bios.bin}" --disk "$work/disk.img" --cpu base-v3 \
        --memory 256M --max-instructions 40000000000 -o "$work/disk.vmtrace"
    tr -d '\r' <"$work/output.txt" | grep -aq '^session: done'
}
cat >"$work/bochsrc" <<CONFIG
plugin_ctrl: speaker=0, parallel=0
config_interface: textconfig
display_library: rfb, options="timeout=0"
megs: 256
cpu: model=corei7_sandy_bridge_2600k, count=1, ips=100000000, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path=$work/bochs.img, mode=flat
boot: disk
com1: enabled=1, mode=file, dev=$work/bochs.txt
log: $work/bochs.log
panic: action=fatal
CONFIG
cp "$work/disk.img" "$work/bochs.img"
echo c >"$work/commands"  # Debian's Bochs starts in its debugger, and ends a machine that is off with status 1
bochs() {
    timeout 900 bochs -q -f "$work/bochsrc" -rc "$work/commands" || true
    # The last lines of the serial port stay in its buffer.
    grep -aq 'reboot: Power down' "$work/bochs.txt"
}
echo "  from a disk, a short session: recorded in $(seconds from_disk) s"
echo "  Bochs, the same: $(seconds bochs) s"
