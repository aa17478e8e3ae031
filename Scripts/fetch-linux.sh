#!/usr/bin/env bash
# Debian's kernel, busybox, GRUB and memtest86+, for tests, samples and benchmarks: unpacked into .build-linux, not
# installed. Says nothing where they are there already; 1 where there is no apt or no such package.
set -euo pipefail
folder=$(cd "$(dirname "$0")/.." && pwd)/.build-linux
[ -e "$folder/complete" ] && [ -e "$folder/modules/virtio_blk.ko" ] && exit 0
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || exit 1
kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || exit 1
mkdir -p "$folder/packages" "$folder/grub" "$folder/modules"
(cd "$folder/packages" && apt-get -q -q -o APT::Sandbox::User=root download "$kernel" busybox-static memtest86+ \
    grub-common grub-pc-bin)
# Of the kernel's package a few files are wanted: tar stops behind the last one, and dpkg-deb hears of it.
drivers='./lib/modules/*/kernel/drivers'
(cd "$folder/packages" && mkdir kernel &&
    dpkg-deb --fsys-tarfile linux-image-*.deb 2>/dev/null | tar -x -C kernel --occurrence=1 --wildcards './boot/vmlinuz-*' \
        "$drivers/block/virtio_blk.ko" "$drivers/char/virtio_console.ko" "$drivers/virtio/virtio.ko" \
        "$drivers/virtio/virtio_ring.ko" "$drivers/virtio/virtio_pci.ko" "$drivers/virtio/virtio_pci_legacy_dev.ko" \
        "$drivers/virtio/virtio_pci_modern_dev.ko") || true
mv "$folder"/packages/kernel/boot/vmlinuz-* "$folder/vmlinuz"
find "$folder/packages/kernel" -name '*.ko' -exec mv -t "$folder/modules" {} +
unpack() { dpkg-deb --fsys-tarfile "$1" 2>/dev/null | tar -x -O --occurrence=1 --wildcards "$2" >"$3" || true; }
unpack "$folder"/packages/busybox-static_*.deb './bin/busybox' "$folder/busybox"
unpack "$folder"/packages/memtest86+_*.deb './boot/memtest86+x64.bin' "$folder/memtest86.bin"
for package in "$folder"/packages/grub-*.deb; do dpkg-deb -x "$package" "$folder/grub"; done
chmod +x "$folder/busybox"
rm -rf "$folder/packages"
[ -s "$folder/vmlinuz" ] && [ -s "$folder/busybox" ] && [ -s "$folder/memtest86.bin" ]
[ -s "$folder/modules/virtio_blk.ko" ]
touch "$folder/complete"
