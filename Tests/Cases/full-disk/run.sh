# A limit on file size stands in for a full disk: writing fails, what was written stays.
printf '\xe4\x60\xeb\xfc' > poll.bin   # in al, 0x60; jmp to it
(
    trap '' XFSZ
    ulimit -f 64
    tracectl record --guest poll.bin --max-exits 20000000 -o poll.vmtrace >/dev/null
    echo "record: $?"
)
# A pipe that is full for ever.
tracectl record --guest poll.bin --max-exits 100000 -o - > /dev/full
echo "record to /dev/full: $?"
