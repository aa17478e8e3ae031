# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Above another project's libnvmm, which tells and publishes nothing, the shim records what the client stores into guest
# memory: a client with one thread replays on the embedded backend. The stand-in is this project's, made dumb.
. "$CASES/libnvmm.sh"
"$ROOT/Samples/clients/build.sh" "$PWD/built"
build "$ROOT/Tests/CNVMM/writing_client.c" built/writing
build "$ROOT/Tests/CNVMM/qemu_sequence.c" built/sequence
build "$ROOT/Tests/Interposer/io_client.c" built/io_client
build "$ROOT/Tests/Interposer/memory_client.c" built/memory
mkdir foreign
sed 's/nvmm_publication_offset/Xvmm_publication_offset/g; s/vmtrace_level/Xmtrace_level/g' \
    "$prefix/lib/libnvmm.so.2" >foreign/libnvmm.so.2
export LD_LIBRARY_PATH=$PWD/foreign

for client in hello sequence writing "io_client 300 noise" memory; do
    echo "== $client"
    name=${client%% *}
    # shellcheck disable=SC2086
    tracectl record -o "$name.vmtrace" -- ./built/$client >"$name.txt" 2>"$name.err"
    echo "status $?"
    grep 'good for' "$name.err"
    tracectl replay "$name.vmtrace" | sed -n '1s/[0-9,]* steps/steps/p'
done
cat memory.txt
echo "== a client's own SIGSEGV stays its own"
tracectl record -o fault.vmtrace -- ./built/memory fault >/dev/null 2>&1
echo "status $?"
tracectl record -o caught.vmtrace -- ./built/memory caught 2>/dev/null
echo "status $?"
