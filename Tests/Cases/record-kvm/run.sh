# needs: device /dev/kvm
# needs: tool cc
# A client of /dev/kvm of our own, recorded at both levels: it prints what it prints alone, and what it did replays on
# the embedded backend to the same registers and the same memory. Threads that store to guest memory while the guest
# polls, and system calls that write there, are admitted between two instructions.
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_client.c" -pthread -o kvm_client || exit
guest=$ROOT/Tests/Interposer/kvm_guest.bin
for words in "" "slots copy" "rounds=100" "read=50 rounds=10" "sync" "unknown" "fork"; do
    echo "== ${words:-plain}"
    # shellcheck disable=SC2086
    ./kvm_client "$guest" $words >alone.txt
    for level in exits replay; do
        # shellcheck disable=SC2086
        tracectl record --level "$level" -o "$level.vmtrace" -- ./kvm_client "$guest" $words >recorded.txt 2>"$level.err"
        echo "status $?"
        cmp alone.txt recorded.txt
        tracectl verify "$level.vmtrace" >/dev/null || echo "does not verify"
    done
    grep 'good for' replay.err
    tracectl replay replay.vmtrace >replay.txt
    echo "status $?"
    head -n 1 replay.txt
    sed -n 's/^  identical [0-9,]*, explained [0-9,]*, /  /p' replay.txt
done
cat alone.txt | head -n 1 | cut -c 1-40
echo "== a guest that reads the time: what depends on it is explained, on both backends"
tracectl record -o times.vmtrace -- ./kvm_client "$ROOT/Tests/Interposer/kvm_times.bin" rounds=50 read=30 >/dev/null 2>&1
for backend in soft kvm; do
    tracectl replay --backend $backend times.vmtrace >replay.txt
    echo "status $?"
    head -n 1 replay.txt
    # The last one before the exit, which is the one in the loop or the one before it.
    grep -q '^    0x10[13][0-9a-f] rdtsc ([0-9]* step' replay.txt && echo "its RDTSC is named"
done
tracectl replay times.vmtrace --fault adc-carry >fault.txt
echo "status $?"
grep -A 1 'Wrong instruction' fault.txt | grep -o 'adc '
echo "== exits by reason are what the client counted"
for level in exits replay; do
    tracectl record --level "$level" -o counted.vmtrace -- ./kvm_client "$guest" count 2>/dev/null | tail -n 1 >client.txt
    tracectl info counted.vmtrace | sed -n 's/^  \(IO\|MEMORY\|HALTED\|INT_READY\) \([0-9]*\)$/\1 \2/p' | sort >trace.txt
    tr ' ' '\n' <client.txt | paste -d ' ' - - | grep -v ' 0$' | sort | cmp - trace.txt && echo the same
done
echo "== a machine after the first is not recorded, and works"
./kvm_client "$guest" again >alone.txt
tracectl record -o again.vmtrace -- ./kvm_client "$guest" again 2>again.err | cmp alone.txt -
grep -o 'good for.*' again.err
tracectl replay again.vmtrace | head -n 1
echo "== two VCPUs that poll the same lock take turns"
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_two.c" -pthread -o kvm_two || exit
two=(./kvm_two "$ROOT/Tests/Interposer/kvm_two.bin")
timeout -s KILL 60 tracectl record -o two.vmtrace -- "${two[@]}" 2>/dev/null
for backend in soft kvm; do
    tracectl replay --backend $backend two.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
done
tracectl fill two.vmtrace -o two-client.vmtrace | sed 's/[0-9,]* steps/steps/'
timeout -s KILL 60 tracectl replay --against-client two-client.vmtrace -- "${two[@]}" 2>verdict.txt
sed -n '1s/[0-9,]* exits/exits/p' verdict.txt
echo "== a grade that is asked for, and not reached"
tracectl record --require exact -o exact.vmtrace -- ./kvm_client "$guest" >/dev/null 2>&1
echo "status $?"
tracectl record --require exact -o lower.vmtrace -- ./kvm_client "$guest" again 2>&1 >/dev/null | tail -n 1
echo "status ${PIPESTATUS[0]}"
echo "== a fault of the backend is found"
tracectl record -o fault.vmtrace -- ./kvm_client "$guest" 2>/dev/null >/dev/null
tracectl replay fault.vmtrace --fault adc-carry >fault.txt
echo "status $?"
grep -A 1 'Wrong instruction' fault.txt | grep -o 'adc '
