tracectl record --guest "$GUESTS/hello.bin" -o one.vmtrace >/dev/null
tracectl record --guest "$GUESTS/selfmod.bin" -o two.vmtrace >/dev/null
tracectl diff one.vmtrace one.vmtrace | head -n 1; echo "same: ${PIPESTATUS[0]}"
tracectl diff one.vmtrace two.vmtrace | head -n 1; echo "different: ${PIPESTATUS[0]}"
