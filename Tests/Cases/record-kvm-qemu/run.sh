# needs: device /dev/kvm
# needs: tool qemu-system-x86_64
# needs: file /usr/share/seabios/bios.bin
# Debian's QEMU on KVM boots SeaBIOS and a disk: once by PIO, once with bus-master DMA, so that a device writes to guest
# memory while the guest polls. Recorded at both levels it prints what it prints alone; what was recorded replays.
for image in "$GUESTS/bootdisk.bin" "$ROOT/Tests/Interposer/busmaster.bin"; do
    guest=$(basename "$image" .bin)
    cp "$image" disk.img
    qemu() {
        timeout -s KILL 90 qemu-system-x86_64 -accel kvm -m 64 -bios /usr/share/seabios/bios.bin -display none -vga none \
            -net none -monitor none -serial stdio -device isa-debug-exit,iobase=0xf4 \
            -drive file=disk.img,format=raw,if=ide,snapshot=on
    }
    echo "== $guest"
    qemu >alone.txt 2>/dev/null
    echo "status $?"
    tr -d '\r' <alone.txt
    for level in exits replay; do
        # A script stands between, as it does for most people.
        declare -f qemu >qemu.sh && echo qemu >>qemu.sh
        tracectl record --level "$level" -o "$guest-$level.vmtrace" -- bash qemu.sh >recorded.txt 2>"$level.err"
        echo "status $?"
        cmp alone.txt recorded.txt
    done
    grep 'good for' replay.err
    tracectl replay "$guest-replay.vmtrace" >replay.txt
    echo "status $?"
    # How many steps are explained depends on when the host's timers came: now and then it is none.
    head -n 1 replay.txt | sed 's/^all [0-9,]* steps identical/no real difference/'
    if grep -q '^all ' replay.txt; then echo "  divergent 0, unverifiable 0"; fi
    sed -n 's/^  identical [0-9,]*, explained [0-9,]*, /  /p' replay.txt
    echo "on KVM:"
    tracectl replay --backend kvm "$guest-replay.vmtrace" >replay-kvm.txt
    echo "status $?"
    head -n 1 replay-kvm.txt | sed 's/all [0-9,]* steps/all steps/'
    echo "against the client, without KVM:"
    tracectl fill "$guest-replay.vmtrace" -o "$guest-client.vmtrace" | sed 's/[0-9,]* steps/steps/'
    tracectl replay --json --against-client "$guest-client.vmtrace" -- bash qemu.sh >against.txt 2>verdict.txt
    cmp alone.txt against.txt
    # Its devices go by the host's time: their answers and the order of their interrupts differ, and nothing else.
    grep -o '"\(missingCount\|extraCount\|clientStatus\)" : [0-9]*' verdict.txt
    grep -o '"kind" : "\(exits\|commits\|machine\)"' verdict.txt
done
echo "== a fault of the backend is found"
tracectl replay busmaster-replay.vmtrace --fault adc-carry >fault.txt
echo "status $?"
grep -A 1 'Wrong instruction' fault.txt | grep -o 'adc '
echo "== what would write to guest memory unseen is refused before it begins"
for aio in io_uring native,cache.direct=on; do
    tracectl record -o refused.vmtrace -- qemu-system-x86_64 -accel kvm -m 64 -display none -vga none -net none \
        -monitor none -serial none -drive "file=disk.img,format=raw,if=ide,aio=$aio" >/dev/null 2>refused.txt
    echo "status $?"
    grep -o 'Unable to use io_uring\|Unable to use native AIO' refused.txt
done
