tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl dump hello.vmtrace --exits 20..99 | cut -d ' ' -f 1
tracectl dump hello.vmtrace --exits 21.. | cut -d ' ' -f 1
tracectl dump hello.vmtrace --exits 22..99; echo "dump: $?"
tracectl replay hello.vmtrace --from 3 --to 99 | head -n 1
tracectl replay hello.vmtrace --to 5 | head -n 1
tracectl replay hello.vmtrace --from 22; echo "replay: $?"
