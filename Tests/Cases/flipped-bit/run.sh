# One bit in the middle of a trace is wrong: verify tells it, and what to do.
tracectl record --guest "$GUESTS/selfmod.bin" -o trace.vmtrace >/dev/null
middle=$(($(stat -c %s trace.vmtrace) / 2))
byte=$(od -An -tu1 -j $middle -N 1 trace.vmtrace)
printf "\\x$(printf %x $((byte ^ 4)))" | dd of=trace.vmtrace bs=1 seek=$middle conv=notrunc status=none
tracectl verify trace.vmtrace | sed 's/^damaged:.*/damaged/; s/.*: tracectl/tracectl/' | head -n 2
echo "verify: ${PIPESTATUS[0]}"
