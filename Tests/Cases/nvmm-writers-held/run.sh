# needs: tool cc
# needs: tool pkg-config
# needs: tool setpriv
# needs: tool swiftc
# needs: file /dev/userfaultfd
# A thread that stores into guest memory while the VCPU runs is held until the VCPU stands between two instructions: no
# deadlock, the trace replays identical, and nothing is said to lower its grade.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/polling_client.c" polling
check() {
    tracectl replay polling.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
    rm -f polling.vmtrace
}
alone ./polling
alone ./polling events
for round in 1 2 3 4 5 6 7 8 9 10; do
    alone NVMM_TRACE=polling.vmtrace ./polling
    check
    alone NVMM_TRACE=polling.vmtrace ./polling events
    check
done | sort | uniq -c | sed 's/^ *//'
# Where the system call is not allowed, by the device.
alone NVMM_TRACE=polling.vmtrace setpriv --bounding-set=-all ./polling
check
# Held by nothing, a store is noticed afterwards only, and the library says so.
alone NVMM_WRITE_PROTECTION=none NVMM_TRACE=polling.vmtrace ./polling 2>&1 | sed 's/ first before step .*//'
