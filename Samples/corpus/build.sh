#!/usr/bin/env bash
# Makes a corpus of recordings of this project's own guests: each sample with several memory sizes, keyframe distances,
# levels and VCPU counts, the firmware's boot, clients of libnvmm, and /dev/kvm where it opens.
# Usage: Samples/corpus/build.sh TRACECTL FOLDER [PREFIX]
#   PREFIX   where Scripts/install.sh put libnvmm; without it there are no recordings of its clients.
# Prints the corpus' size, and that of the same traces each by itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
guests=$here/../guests
clients=$here/../clients
tracectl=$1
corpus=$2
prefix=${3:-}
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
separate=0

# add NAME TAGS: what was recorded last.
add() {
    separate=$((separate + $(stat -c %s "$work/last.vmtrace")))
    "$tracectl" corpus add "$corpus" "$work/last.vmtrace" --name "$1" --tag "$2" >/dev/null
    rm -f "$work/last.vmtrace"
}

# What ends a guest that has gone astray.
bound=(--max-instructions 300000000)

# take NAME TAGS OPTION...: records a guest of the small PC. What a guest's exit status means is its own business.
take() {
    local name=$1 tags=$2
    shift 2
    "$tracectl" record "${bound[@]}" "$@" -o "$work/last.vmtrace" >/dev/null 2>"$work/errors" || {
        cat "$work/errors" >&2
        return 1
    }
    add "$name" "$tags"
}

"$tracectl" corpus init "$corpus" >/dev/null
for guest in hello exits exerciser selfmod longmode timestamps twocpus; do
    cpus=1
    [ $guest = twocpus ] && cpus=2
    for memory in 2M 16M 64M; do
        take "$guest-$memory" "soft,$guest" --guest "$guests/$guest.bin" --cpus $cpus --memory $memory
    done
    take "$guest-keyframes" "soft,$guest" --guest "$guests/$guest.bin" --cpus $cpus --keyframe-every 101
    take "$guest-cpus" "soft,smp,$guest" --guest "$guests/$guest.bin" --cpus $((cpus + 1))
    take "$guest-client" "soft,client,$guest" --guest "$guests/$guest.bin" --cpus $cpus --level client
done
if [ -r "$firmware" ]; then
    for memory in 16M 64M 256M; do
        boot=(--firmware "$firmware" --disk "$guests/bootdisk.bin" --memory $memory)
        take "firmware-$memory" soft,firmware "${boot[@]}"
        take "firmware-$memory-keyframes" soft,firmware "${boot[@]}" --keyframe-every 5000
        for exits in 1000 5000 20000; do
            take "firmware-$memory-$exits" soft,firmware "${boot[@]}" --max-exits $exits
        done
    done
    take firmware-cpus soft,smp,firmware --firmware "$firmware" --disk "$guests/bootdisk.bin" --cpus 2
else
    echo "no recordings of firmware: $firmware is not there" >&2
fi
if [ -n "$prefix" ]; then
    for client in hello lapic twocpus; do
        # shellcheck disable=SC2046
        cc -std=c11 -O1 "$clients/$client.c" -o "$work/$client" -pthread \
            $(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --cflags --libs nvmm)
        for level in replay client; do
            LD_LIBRARY_PATH=$prefix/lib "$tracectl" record --level $level -o "$work/last.vmtrace" -- \
                "$work/$client" >/dev/null 2>&1 || true
            add "libnvmm-$client-$level" "libnvmm,$client"
        done
    done
fi
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    bound=(--max-exits 1000000)
    for guest in hello exits exerciser longmode; do
        take "kvm-$guest" "kvm,$guest" --backend kvm --guest "$guests/$guest.bin"
    done
else
    echo "no recordings of KVM: /dev/kvm does not open" >&2
fi
"$tracectl" corpus list "$corpus" | tail -n 1
echo "the same traces, each by itself: $((separate / 1024)) KiB"
