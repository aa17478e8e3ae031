# Where nothing was compared, nothing is identical.
tracectl record --guest "$GUESTS/hello.bin" --max-exits 0 -o empty.vmtrace >/dev/null
tracectl replay empty.vmtrace; echo "no steps: $?"
# A fault that never fires is a finding about the request.
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl replay hello.vmtrace --fault adc-carry@9999 >/dev/null; echo "late fault: $?"
tracectl replay hello.vmtrace --fault adc-carry >/dev/null; echo "idle fault: $?"
tracectl record --guest "$GUESTS/hello.bin" --fault adc-carry@9999 -o fault.vmtrace >/dev/null; echo "recorded: $?"
