# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# The calls that QEMU's accelerator makes for each exit, alone and recorded; the trace replays identical.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/qemu_sequence.c" sequence
alone ./sequence
alone NVMM_TRACE=sequence.vmtrace ./sequence >/dev/null || echo "recorded: status $?"
tracectl replay sequence.vmtrace | sed -n '1s/[0-9,]* steps/steps/p'
