# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# The three ways of recording a client of libnvmm: preloaded, by the library itself, and into a file that is imported.
# A client with one thread gives the same bytes in all of them; what threads do differs from run to run, and replays.
. "$CASES/libnvmm.sh"
"$ROOT/Samples/clients/build.sh" "$PWD/built"
export LD_LIBRARY_PATH=$prefix/lib
shim=$(dirname "$(command -v tracectl)")/libvmtrace.so
first() { sed -n '1s/[0-9,]* steps/steps/p'; }

for client in hello lapic twocpus; do
    echo "== $client"
    "./built/$client" >alone.txt
    tracectl record -o "$client-preload.vmtrace" -- "./built/$client" >recorded.txt
    # How many timer interrupts and NMIs there are depends on host time in lapic.
    [ "$client" = lapic ] || cmp alone.txt recorded.txt
    NVMM_TRACE=$client-library.vmtrace "./built/$client" >/dev/null
    VMTRACE_RAW=$client.raw VMTRACE_LEVEL=replay LD_PRELOAD=$shim "./built/$client" >/dev/null
    tracectl import "$client.raw" -o "$client-import.vmtrace" | sed '1s/ [0-9]* exits/ exits/'
    for way in preload library import; do
        trace=$client-$way.vmtrace
        echo "$way: $(tracectl replay "$trace" | first), $(stat -c %a "$trace")"
        tracectl verify "$trace" >/dev/null || echo "does not verify"
    done
    if [ "$client" = hello ]; then
        cmp hello-library.vmtrace hello-preload.vmtrace && cmp hello-library.vmtrace hello-import.vmtrace &&
            echo "the same bytes in three ways"
        tracectl diff hello-library.vmtrace hello-preload.vmtrace | head -n 1
    fi
done
stat -c '%a %n' hello.raw
ls ./*.open* 2>/dev/null

echo "== what the interface shows alone is what the library tells"
build "$ROOT/Tests/CNVMM/qemu_sequence.c" built/sequence
for client in hello twocpus sequence; do
    # One run, recorded in both ways at once.
    VMTRACE_RAW=$client-seen.raw VMTRACE_LIBRARY_TELLS=no LD_PRELOAD=$shim NVMM_TRACE=$client-told.vmtrace \
        "./built/$client" >/dev/null
    tracectl import "$client-seen.raw" -o "$client-seen.vmtrace" >/dev/null
    # Between runs the library knows of slices, and of calls that its assists make.
    for way in told seen; do
        tracectl dump "$client-$way.vmtrace" --json >"$way.json"
        "$ROOT/Tests/Interposer/runs.py" <"$way.json" >"$way.txt" || echo "no runs in $client-$way"
    done
    cmp told.txt seen.txt && echo "$client: the same runs"
done

echo "== once"
NVMM_TRACE=$PWD/both.vmtrace tracectl record -o once.vmtrace -- ./built/hello
ls both.vmtrace 2>/dev/null
VMTRACE_RAW=once.raw LD_PRELOAD=$shim NVMM_TRACE=both.vmtrace ./built/hello
ls both.vmtrace 2>/dev/null
true
