# A guest that never ends; Ctrl-C closes the trace, and what was recorded is whole.
printf '\xeb\xfe' > loop.bin
# A background process of a script ignores SIGINT from the start; tracectl sets its own handler.
tracectl record --guest loop.bin -o loop.vmtrace >/dev/null &
writer=$!
sleep 1
kill -INT $writer
wait $writer; echo "record: $?"
tracectl verify loop.vmtrace >/dev/null; echo "verify: $?"
tracectl replay loop.vmtrace --to 5 >/dev/null; echo "replay: $?"
ls
