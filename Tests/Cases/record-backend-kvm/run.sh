# needs: device /dev/kvm
# needs: file /usr/share/seabios/bios.bin
# The samples on the host's KVM: each prints what it prints on the soft backend, and ends as it does there. What was
# recorded replays on the soft backend and on KVM, to the same registers and the same memory.
for guest in "$GUESTS"/*.bin; do
    name=$(basename "$guest" .bin)
    source "$CASES/guest-options.sh" "$name"
    options=${options#--max-instructions * }
    if [ "$name" = exits ]; then
        # 500 rounds instead of 10,000: mov r13d, ROUNDS. A round is ten exits, for which some KVMs take their time.
        LC_ALL=C sed 's/\x41\xbd\x10\x27\x00\x00/\x41\xbd\xf4\x01\x00\x00/' "$guest" >exits.bin
        options=${options/"$guest"/exits.bin}
    fi
    tracectl record $options -o soft.vmtrace >soft.txt 2>soft.err
    for attempt in 1 2 3; do
        timeout 60 tracectl record --backend kvm $options --keyframe-every 500 -o kvm.vmtrace >kvm.txt 2>kvm.err
        status=$?
        # Now and then the counter decides which way this guest goes, so that nothing can be said of the rest (README,
        # Limits): one of three recordings must be one of which something can.
        [ "$name" = timestamps ] || break
        tracectl replay kvm.vmtrace | grep -q '^  unverifiable: the time-stamp counter decided' || break
    done
    echo "$name: status $status"
    sed '/^recorded /,$d' soft.txt >soft.out
    sed '/^recorded /,$d' kvm.txt >kvm.out
    # The boot sector echoes a key whenever the timer lets it.
    cmp <(grep -o . soft.out | sort) <(grep -o . kvm.out | sort)
    sed -n 's/^recorded .*: //p' kvm.txt
    tracectl verify kvm.vmtrace >/dev/null || echo "$name: verify $?"
    for backend in soft kvm; do
        tracectl replay --backend "$backend" kvm.vmtrace >replay.txt
        echo "  replay on $backend: status $?$(sed -n '1s/.*\(, .*\)/\1/p' replay.txt)"
        if [ "$name" = bootdisk ]; then
            # The flags of divisions and shifts, each with its instruction.
            form='^    0x[0-9a-f]* \(div\|idiv\|mul\|imul\|sh[lr]\|ro[lr]\) '
            [ "$backend" = kvm ] || grep -q "$form" replay.txt || echo "no explained step names its instruction"
            tracectl replay --backend "$backend" --from 2100 kvm.vmtrace >replay.txt
            echo "  from the middle: status $?$(sed -n '1s/.*\(, .*\)/\1/p' replay.txt)"
        fi
    done
done
echo "== what KVM cannot do is said before it begins"
tracectl record --backend kvm --cpu base-v1 --guest "$GUESTS/hello.bin" -o no.vmtrace
tracectl record --backend kvm --max-instructions 5 --guest "$GUESTS/hello.bin" -o no.vmtrace
tracectl replay --backend kvm soft.vmtrace
test ! -e no.vmtrace
