# A trace written to a pipe is the one that is written to a file.
tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl record --guest "$GUESTS/hello.bin" -o - | cat > piped.vmtrace
cmp hello.vmtrace piped.vmtrace && echo the same
# A reader that goes away ends the recording with an error, not with a signal.
printf '\xe4\x60\xeb\xfc' > poll.bin   # in al, 0x60; jmp to it
set -o pipefail
tracectl record --guest poll.bin -o - | head -c 100 >/dev/null
echo "record: $?"
