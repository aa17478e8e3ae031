#!/bin/sh
# Builds every sample guest beside its source. Needs nasm; the images are committed, so that nothing else does.
set -eu
cd "$(dirname "$0")"
for source in *.asm; do
    nasm -f bin -o "${source%.asm}.bin" "$source"
done
