#!/usr/bin/env bash
# A disk that boots by GRUB into a kernel of Linux, or another of its boot protocol: an MBR, GRUB behind it, one ext2
# partition. Its menu and the kernel's console are on the serial port.
# Usage: grub-disk.sh GRUB KERNEL INITRD DISK [COMMAND LINE]   (GRUB: where grub-common and grub-pc-bin are unpacked)
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
grub=$(realpath "$1") kernel=$(realpath "$2") initrd=$(realpath "$3") disk=$(realpath -m "$4") line=${5:-console=ttyS0}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
cp "$kernel" "$work/tree/vmlinuz"
cp "$initrd" "$work/tree/initrd.gz"
cat >"$work/tree/grub.cfg" <<CONFIG
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
menuentry "Linux" {
    linux /vmlinuz $line
    initrd /initrd.gz
}
CONFIG
printf '%s\n' 'set root=hd0,msdos1' 'configfile /grub.cfg' >"$work/early.cfg"
"$grub/usr/bin/grub-mkimage" -d "$grub/usr/lib/grub/i386-pc" -O i386-pc -c "$work/early.cfg" -p /grub -o "$work/core.img" \
    biosdisk part_msdos ext2 configfile normal linux serial terminal test
"$(PATH=$PATH:/sbin:/usr/sbin command -v mkfs.ext2)" -q -d "$work/tree" "$work/part.img" 16M
python3 - "$grub/usr/lib/grub/i386-pc/boot.img" "$work/core.img" "$work/part.img" "$disk" <<'PYTHON'
import struct, sys
boot, core, partition, disk = sys.argv[1:]
first_sector = 2048
mbr, core, partition = (bytearray(open(path, "rb").read()) for path in (boot, core, partition))
# boot.img has code for floppies where the table of a hard disk is.
mbr[446:510] = struct.pack("<B3xB3xII48x", 0x80, 0x83, first_sector, len(partition) // 512)
image = mbr + core
assert len(image) <= first_sector * 512
open(disk, "wb").write(image + bytes(first_sector * 512 - len(image)) + partition)
PYTHON
