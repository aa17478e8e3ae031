# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Clients are answered from their traces with no processor: unchanged ones do as recorded, changed ones are found out.
. "$CASES/libnvmm.sh"
"$ROOT/Samples/clients/build.sh" "$PWD/built"
export LD_LIBRARY_PATH=$prefix/lib

# against TRACE PROGRAM: the client's output is its own, the verdict comes on standard error.
against() {
    timeout 60 tracectl replay --against-client "$1" -- "./$2" >output.txt 2>verdict.txt
    echo "status $?: $(sed -n '/^tracectl:/s/[0-9,]* runs\{0,1\}, [0-9]* machine/runs, machine/p' verdict.txt)"
}

for client in hello lapic twocpus; do
    NVMM_TRACE=$client.vmtrace NVMM_TRACE_LEVEL=client "./built/$client" >recorded.txt
    NVMM_TRACE=plain.vmtrace "./built/$client" >/dev/null
    rm -f filled.vmtrace
    tracectl fill plain.vmtrace -o filled.vmtrace | sed 's/[0-9,]* steps/steps/'
    for trace in $client filled; do
        against "$trace.vmtrace" "built/$client"
        cmp output.txt recorded.txt
    done
    tracectl replay "$client.vmtrace" | sed -n '1s/[0-9,]* steps/steps/p'
    rm -f plain.vmtrace
done

# All state read and committed back at each exit, the time-stamp counter too.
build "$ROOT/Tests/CNVMM/qemu_sequence.c" sequence
NVMM_TRACE=sequence.vmtrace NVMM_TRACE_LEVEL=client ./sequence >/dev/null
against sequence.vmtrace sequence

# changed NAME CLIENT SED-COMMAND: a client with a deliberate mistake
changed() {
    echo "== $1"
    cp "$ROOT"/Samples/clients/*.h .
    sed "$3" "$ROOT/Samples/clients/$2.c" >changed.c
    cmp -s changed.c "$ROOT/Samples/clients/$2.c" && echo "the sample has no such line any more"
    build changed.c changed
    timeout 60 tracectl replay --against-client "$2.vmtrace" -- ./changed >/dev/null 2>verdict.txt
    echo "status $?"
    sed -n '/^Difference/s/step [0-9]*/step n/p;/^\*/p' verdict.txt
}
changed "another register" hello 's/gprs\[NVMM_X64_GPR_RIP\] = CODE_GPA;/& vcpu.state->gprs[NVMM_X64_GPR_RBX] = 5;/'
changed "another protection" hello 's/CODE_GPA, PAGE, PROT_READ | PROT_WRITE/CODE_GPA, PAGE, PROT_READ/'
changed "another byte in memory" hello "s/'h', 'e'/'H', 'e'/"
changed "another interrupt" lapic 's/inject((uint8_t)apic\[0x320 \/ 4\])/inject(0x31)/'
changed "no answer to the guest" hello 's/if (nvmm_assist_io(&machine, &vcpu) == -1)/if (0)/'

# ended NAME STATEMENT: a client that does STATEMENT at the letter f
ended() {
    echo "== $1"
    sed -e "s|putchar(io->data\[0\]);|if (io->data[0] == 'f') $2;|" -e 's|#include <err.h>|&\n#include <unistd.h>|' \
        "$ROOT/Samples/clients/hello.c" >ended.c
    build ended.c ended
    timeout 60 tracectl replay --against-client hello.vmtrace -- ./ended >/dev/null
    echo "status $?"
}
ended "a client that dies on the way" "abort()"
ended "a client that becomes another" 'execl("built/hello", "hello", (char *)0)'

echo "== one document"
tracectl replay --against-client hello.vmtrace --json -- ./built/hello 2>&1 >/dev/null | grep identical
echo "== what cannot be"
NVMM_TRACE=plain.vmtrace ./built/hello >/dev/null
tracectl replay --against-client plain.vmtrace -- ./built/hello
echo "status $?"
tracectl replay --against-client hello.vmtrace -- true
echo "status $?"
tracectl replay --against-client hello.vmtrace 2>/dev/null
echo "status $?"
NVMM_BACKEND=recorded NVMM_RECORDING=plain.vmtrace ./built/hello
echo "status $?"
