tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl repair hello.vmtrace -o - | cat > whole.vmtrace; echo "repair: ${PIPESTATUS[0]}"
cmp hello.vmtrace whole.vmtrace && echo the same
tracectl repair hello.vmtrace -o - > /dev/full; echo "full: $?"
# What a killed recording left is not what a repair may write over.
touch left.vmtrace left.vmtrace.open.0
tracectl repair hello.vmtrace -o left.vmtrace; echo "killed recording: $?"
ls
