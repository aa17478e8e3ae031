# Each value that is refused is refused with what is accepted, also one that begins like an option.
show() { "$@" 2>&1 >/dev/null | head -n 1; echo "${PIPESTATUS[0]}"; }
show tracectl record --guest x --memory 64Q -o x.vmtrace
show tracectl record --guest x --memory -1 -o x.vmtrace
show tracectl record --guest x --cpus two -o x.vmtrace
show tracectl record --guest x --load-at 7c00h -o x.vmtrace
show tracectl record --guest x --max-exits -5 -o x.vmtrace
show tracectl record --guest x --keyframe-every 1k -o x.vmtrace
show tracectl replay x.vmtrace --from abc
show tracectl replay x.vmtrace --to -3
show tracectl replay x.vmtrace --fault @5
show tracectl dump x.vmtrace --exits 5..3
show tracectl dump x.vmtrace --exits -4
show tracectl dump x.vmtrace --reason nonsense
