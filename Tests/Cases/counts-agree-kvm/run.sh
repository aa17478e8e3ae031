# needs: device /dev/kvm
# needs: tool cc
# needs: tool strace
# needs: tool qemu-system-x86_64
# Exits by reason are what strace counts of the same run, of a client of our own at both levels and of QEMU.
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_client.c" -pthread -o kvm_client || exit
cp "$GUESTS/bootdisk.bin" disk.img
cat >qemu <<'END'
exec qemu-system-x86_64 -accel kvm -m 64 -display none -vga none -net none -monitor none -serial stdio \
    -device isa-debug-exit,iobase=0xf4 -drive file=disk.img,format=raw,if=ide,snapshot=on 2>/dev/null
END
# compared LEVEL COMMAND...
compared() {
    local level=$1
    shift
    rm -f a.vmtrace strace.txt
    tracectl record --level "$level" -o a.vmtrace -- strace -f -e trace=ioctl -e kvm=vcpu -o strace.txt "$@" >/dev/null 2>&1
    # Where another thread came in between, the end of a call stands on a line of its own. The shim asks a VCPU of its
    # own what CPUID shows; the client's is the one with the most exits.
    awk '
        match($0, /ioctl\([0-9]+, KVM_RUN/) { split(substr($0, RSTART + 6), part, ","); file[$1] = part[1] }
        match($0, /= 0 \(KVM_EXIT_[A-Z_]+\)$/) {
            reason = substr($0, RSTART + 14, RLENGTH - 15)
            count[file[$1], reason]++
            if (++total[file[$1]] > most) { most = total[file[$1]]; client = file[$1] }
        }
        END { for (key in count) { split(key, part, SUBSEP); if (part[1] == client) print part[2], count[key] } }
    ' strace.txt | sed 's/^MMIO /MEMORY /; s/^HLT /HALTED /; s/^IRQ_WINDOW_OPEN /INT_READY /' | sort >strace.counts
    tracectl info a.vmtrace | sed -n 's/^  \([A-Z_]*\) \([0-9,]*\)$/\1 \2/p' | tr -d , | grep -v '^NONE ' | sort >trace.counts
    cmp strace.counts trace.counts && echo "$level: the same"
}
for level in exits replay; do compared $level ./kvm_client "$ROOT/Tests/Interposer/kvm_guest.bin"; done
for level in exits replay; do
    compared $level sh qemu
    [ "$(sed -n 's/^IO //p' trace.counts)" -gt 1000 ] || echo "too few"
done
