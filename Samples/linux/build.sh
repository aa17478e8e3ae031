#!/usr/bin/env bash
# An initial RAM disk that boots into ./init, and nothing else: busybox and the links that it is called by.
# Usage: build.sh BUSYBOX INITRD [INIT [MODULE...]]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: build.sh BUSYBOX INITRD [INIT [MODULE...]]    (busybox-static's busybox; INIT is the script to boot" \
        "into; it finds the modules in /modules)" >&2
    exit 2
fi
busybox=$(realpath "$1") initrd=$(realpath -m "$2") init=${3:-$(dirname "$0")/init}
init=$(realpath "$init")
shift $(($# < 3 ? $# : 3))
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{bin,dev,proc,sys}
cp "$busybox" "$tree/bin/busybox"
cp "$init" "$tree/init"
chmod 755 "$tree/init" "$tree/bin/busybox"
[ $# -eq 0 ] || { mkdir "$tree/modules" && cp "$@" "$tree/modules"; }
for name in sh awk cat cmp cut dd echo grep gzip head insmod ls mount poweroff seq sha256sum uname; do
    ln -s busybox "$tree/bin/$name"
done
# The same bytes whenever it is built.
find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . | LC_ALL=C sort | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) | gzip -9n >"$initrd"
