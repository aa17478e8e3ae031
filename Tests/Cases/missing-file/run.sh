for verb in info dump stats verify; do tracectl $verb nothing.vmtrace; echo "$verb: $?"; done
tracectl replay nothing.vmtrace; echo "replay: $?"
tracectl diff nothing.vmtrace nothing.vmtrace; echo "diff: $?"
tracectl repair nothing.vmtrace -o out.vmtrace; echo "repair: $?"
tracectl record --guest nothing.bin -o out.vmtrace; echo "record: $?"
# Nothing may be left behind by a recording that never began.
ls
