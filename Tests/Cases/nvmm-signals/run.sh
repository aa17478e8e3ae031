# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# A run returns with NONE once a signal handler has run on its thread; the client gets back the handlers that it gave.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/signal_client.c" signals
alone ./signals
alone NVMM_TRACE=signals.vmtrace ./signals
tracectl replay signals.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
# A handler that stores into guest memory cannot wait for the run that it interrupts; where it need not, all is found.
alone NVMM_TRACE=store.vmtrace ./signals store 2>&1 | sed 's/ first before step .*//'
