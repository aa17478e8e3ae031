# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# A child of the client that ends with exit() leaves its parent's recording alone, whoever records, and ends at once.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/Interposer/io_client.c" io_client
alone ./io_client 1000 fork
alone NVMM_TRACE=traced.vmtrace ./io_client 1000 fork
LD_LIBRARY_PATH=$prefix/lib tracectl record -o preloaded.vmtrace -- timeout -s KILL 60 ./io_client 1000 fork 2>&1 |
    sed 's/, [0-9.]* KiB//'
for trace in traced preloaded; do tracectl replay $trace.vmtrace | head -n 1; done
