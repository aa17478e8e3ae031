# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# A run returns with NONE once a signal handler has run on its thread; the client gets back the handlers that it gave.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/signal_client.c" signals
alone ./signals
alone NVMM_TRACE=signals.vmtrace ./signals
tracectl replay signals.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
# A handler comes once the run has given way: what it stores into guest memory is in the trace, at its place.
for way in "" mprotect; do
    alone NVMM_WRITE_PROTECTION=$way NVMM_TRACE=store$way.vmtrace ./signals store 2>&1 | sed 's/ first before step .*//'
    tracectl replay store$way.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
done
