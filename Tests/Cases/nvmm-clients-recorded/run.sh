# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# The clients run alone and recorded, and say the same; their traces replay identical.
. "$CASES/libnvmm.sh"
"$ROOT/Samples/clients/build.sh" "$PWD/built"
for client in hello lapic twocpus; do
    alone "./built/$client" >alone.txt || echo "status $?"
    alone "NVMM_TRACE=$client.vmtrace" "./built/$client" >recorded.txt || echo "status $?"
    cat alone.txt
    # How many timer interrupts and NMIs there are depends on host time in lapic.
    [ "$client" = lapic ] || cmp alone.txt recorded.txt
    stat -c '%a %n' "$client.vmtrace"
    tracectl replay "$client.vmtrace" | sed -n '1s/[0-9,]* steps/steps/p'
    tracectl verify "$client.vmtrace" >/dev/null && echo verified
done
# A trace that cannot be written is the recorder's trouble, not the client's.
alone NVMM_TRACE=no/such/folder.vmtrace ./built/hello
alone NVMM_BACKEND=none ./built/hello
