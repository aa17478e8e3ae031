# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# What a client stores into guest memory, by whatever means, is in the trace: it replays identical.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/writing_client.c" writing
alone ./writing
alone NVMM_TRACE=writing.vmtrace ./writing
tracectl replay writing.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
