# SIGKILL leaves a trace and its journals; repair makes a whole trace of them.
printf '\xe4\x60\xeb\xfc' > poll.bin   # in al, 0x60; jmp to it
tracectl record --guest poll.bin -o poll.vmtrace >/dev/null &
writer=$!
sleep 1
{ kill -KILL $writer; wait $writer; } 2>/dev/null  # the shell announces the death, at either of the two
tracectl repair poll.vmtrace -o whole.vmtrace >/dev/null; echo "repair: $?"
tracectl verify whole.vmtrace >/dev/null; echo "verify: $?"
tracectl replay whole.vmtrace --to 100 >/dev/null; echo "replay: $?"
