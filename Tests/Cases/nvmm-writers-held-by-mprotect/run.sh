# needs: tool cc
# needs: tool pkg-config
# needs: tool setpriv
# needs: tool swiftc
# Where userfaultfd is not to be had, writers are held by mprotect and a handler of SIGSEGV; system calls that store into
# guest memory go through a buffer. No deadlock, and the traces replay identical.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/polling_client.c" polling
build "$ROOT/Tests/Interposer/memory_client.c" memory
check() {
    tracectl replay held.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
    rm -f held.vmtrace
}
for round in 1 2 3 4 5 6 7 8 9 10; do
    for client in "./polling" "./polling events" "./memory" "./memory caught"; do
        # shellcheck disable=SC2086
        alone NVMM_WRITE_PROTECTION=mprotect NVMM_TRACE=held.vmtrace $client
        check
    done
done | sort | uniq -c | sed 's/^ *//'
# What is chosen where the kernel allows this user no more.
mkdir -m 777 shared
unprivileged=()
[ "$(id -u)" != 0 ] || unprivileged=(setpriv --reuid=65534 --clear-groups)
alone NVMM_TRACE=shared/held.vmtrace "${unprivileged[@]}" ./polling
mv shared/held.vmtrace .
check
alone NVMM_WRITE_PROTECTION=mprotect NVMM_TRACE=fault.vmtrace ./memory fault >/dev/null 2>&1
echo "a fault of the client's own: status $?"
alone NVMM_WRITE_PROTECTION=stone NVMM_TRACE=held.vmtrace ./memory
check
