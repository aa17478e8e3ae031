# needs: file /usr/share/seabios/bios.bin
for guest in "$GUESTS"/*.bin; do
    name=$(basename "$guest" .bin)
    source "$CASES/guest-options.sh" "$name"
    tracectl record $options -o "$name.vmtrace" >/dev/null
    tracectl replay "$name.vmtrace" >report.txt || cat report.txt
    echo "$name: $(head -n 1 report.txt | sed 's/all [0-9,]* steps*/all steps/')"
    tracectl verify "$name.vmtrace" >/dev/null || echo "$name: verify $?"
    tracectl diff "$name.vmtrace" "$name.vmtrace" >/dev/null || echo "$name: diff $?"
done
