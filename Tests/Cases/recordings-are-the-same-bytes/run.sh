# needs: file /usr/share/seabios/bios.bin
for guest in "$GUESTS"/*.bin; do
    name=$(basename "$guest" .bin)
    source "$CASES/guest-options.sh" "$name"
    tracectl record $options -o "$name-1.vmtrace" >/dev/null || echo "$name: status $?"
    tracectl record $options -o "$name-2.vmtrace" >/dev/null || echo "$name: status $?"
    cmp "$name-1.vmtrace" "$name-2.vmtrace" && echo "$name: the same"
done
