#!/usr/bin/env bash
# An initial RAM disk that boots into ./init, and nothing else: busybox and the links that it is called by.
# Usage: build.sh BUSYBOX INITRD [MODULES [INIT]]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: build.sh BUSYBOX INITRD [MODULES [INIT]]    (busybox-static's busybox; MODULES is a folder with the" \
        "kernel's modules for virtio, or ''; INIT is the script to boot into)" >&2
    exit 2
fi
busybox=$(realpath "$1") initrd=$(realpath -m "$2") modules=${3:-} init=${4:-$(dirname "$0")/init}
init=$(realpath "$init")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,dev,proc,sys}
cp "$busybox" "$tree/bin/busybox"
cp "$init" "$tree/init"
chmod 755 "$tree/init" "$tree/bin/busybox"
if [ -n "$modules" ]; then
    cp -r "$modules" "$tree/modules"
    cp "$(dirname "$0")/virtio-session" "$tree"
fi
for name in sh awk cat cmp cut dd echo grep gzip head insmod ls mount poweroff seq sha256sum uname; do
    ln -s busybox "$tree/bin/$name"
done
# The same bytes whenever it is built.
find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . | LC_ALL=C sort | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) | gzip -9n >"$initrd"
