# A trace is read at many places, so that a pipe is no source of one; a file is, under any name.
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
for verb in info dump stats verify replay; do
    tracectl $verb - < hello.vmtrace >/dev/null; echo "$verb from a file: $?"
done
cat hello.vmtrace | tracectl info -; echo "info: $?"
cat hello.vmtrace | tracectl verify /dev/stdin; echo "verify: $?"
cat hello.vmtrace | tracectl repair - -o whole.vmtrace; echo "repair: $?"
ls
