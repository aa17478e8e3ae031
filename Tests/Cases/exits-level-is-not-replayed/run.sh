tracectl record --level exits --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl stats hello.vmtrace >/dev/null && echo counted
tracectl replay hello.vmtrace
