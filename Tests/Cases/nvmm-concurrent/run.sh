# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Two VCPUs in threads count together: side by side, recorded so, and in turns that replay.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/concurrent_client.c" concurrent
for round in 1 2 3; do alone ./concurrent; done
alone NVMM_TRACE="$PWD/exits.vmtrace" NVMM_TRACE_LEVEL=exits ./concurrent
tracectl stats exits.vmtrace | sed -n "s|^ *HALTED  *\([0-9]*\) .*|\1 halted|p"
alone NVMM_TRACE="$PWD/turns.vmtrace" ./concurrent
tracectl replay turns.vmtrace | sed -n 's/all [0-9,]* steps/all steps/p'
