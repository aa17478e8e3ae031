tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
size=$(stat -c %s hello.vmtrace)
head -c $((size - 20)) hello.vmtrace > short.vmtrace
tracectl verify short.vmtrace >/dev/null; echo "verify: $?"
tracectl repair short.vmtrace -o whole.vmtrace >/dev/null; echo "repair: $?"
tracectl verify whole.vmtrace >/dev/null; echo "verify: $?"
tracectl replay whole.vmtrace >/dev/null; echo "replay: $?"
head -c 10 hello.vmtrace > stub.vmtrace
tracectl info stub.vmtrace
