#!/bin/sh
# Assembles the clients' guests into headers beside their sources, which are committed. With an argument, builds the
# clients into that folder against the installed libnvmm.
set -eu
cd "$(dirname "$0")"
if [ $# -gt 0 ]; then
    mkdir -p "$1"
    for source in hello lapic twocpus; do
        # shellcheck disable=SC2046
        ${CC:-cc} -std=c11 -O1 -Wall -Wextra "$source.c" $(pkg-config --cflags --libs nvmm) -pthread -o "$1/$source"
    done
    exit 0
fi
for source in *_guest.asm ../../Tests/CNVMM/*_guest.asm; do
    name=${source%.asm}
    nasm -f bin -o "$name.bin" "$source"
    {
        echo "// Built from $(basename "$source") by Samples/clients/build.sh."
        echo "static const uint8_t $(basename "$name")[] = {"
        od -An -v -tx1 -w16 "$name.bin" | sed 's/ \(..\)/ 0x\1,/g; s/^/   /'
        echo "};"
    } >"$name.h"
    rm "$name.bin"
done
