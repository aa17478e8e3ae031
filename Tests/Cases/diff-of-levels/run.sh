# Traces of two levels are compared in what both hold, and the verdict says how far it reaches.
tracectl record --guest "$GUESTS/hello.bin" -o replay.vmtrace >/dev/null
tracectl record --level exits --guest "$GUESTS/hello.bin" -o exits.vmtrace >/dev/null
tracectl diff replay.vmtrace exits.vmtrace | head -n 4; echo "${PIPESTATUS[0]}"
tracectl record --guest "$GUESTS/selfmod.bin" -o other.vmtrace >/dev/null
tracectl diff replay.vmtrace other.vmtrace --json | grep '"rip"'
