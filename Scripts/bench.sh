#!/usr/bin/env bash
# Builds Benchmarks/ and prints its figures; arguments go to it (such as: --quick).
set -euo pipefail
cd "$(dirname "$0")/.."
firmware=${FIRMWARE:-/usr/share/seabios/bios.bin}
disk=${DISK:-Samples/guests/bootdisk.bin}
swift build -c release --package-path Benchmarks
Benchmarks/.build/release/Figures --firmware "$firmware" --disk "$disk" "$@"
echo
echo "A client of libnvmm:"
Benchmarks/exit-cost.sh Benchmarks/.build/release/Figures
echo
echo "QEMU record/replay of the same firmware and disk:"
Benchmarks/qemu-rr.sh "$firmware" "$disk"
echo
echo "recording clients of libnvmm by preload:"
quick=
[[ " $* " != *" --quick "* ]] || quick=--quick
swift build -c release -Xswiftc -enable-testing --product nvmm
swift build -c release -Xswiftc -enable-testing --product vmtrace
swift build -c release -Xswiftc -enable-testing --product tracectl
Benchmarks/preload.sh "$PWD/.build/release/tracectl" $quick
echo
echo "Debian's kernel, recorded and replayed:"
Benchmarks/linux.sh "$PWD/.build/release/tracectl" $quick
echo
echo "recording clients of /dev/kvm:"
Benchmarks/kvm.sh "$PWD/.build/release/tracectl" $quick
echo
echo "a corpus, reports and exports:"
Benchmarks/corpus.sh "$PWD/.build/release/tracectl" $quick
