# Filling a trace gives the bytes that recording at level client gives; what differs, or cannot be, leaves no file.
for name in longmode twocpus; do
    source "$CASES/guest-options.sh" "$name"
    tracectl record $options -o "$name.vmtrace" >/dev/null
    tracectl record $options --level client -o direct.vmtrace >/dev/null
    tracectl fill "$name.vmtrace" -o filled.vmtrace
    cmp direct.vmtrace filled.vmtrace
    tracectl info filled.vmtrace | grep -o 'level client'
    tracectl verify filled.vmtrace >/dev/null && echo sound
    tracectl replay filled.vmtrace >/dev/null && echo identical
    tracectl diff "$name.vmtrace" filled.vmtrace | head -n 1
    rm direct.vmtrace filled.vmtrace
done
echo "== a trace that does not replay"
printf '\xf9\xb8\x01\x00\x15\x02\x00\xe6\x80\xb0\x01\xe6\xf4' >adc.bin   # stc; mov ax, 1; adc ax, 2; out 0x80, al; ...
options="--guest adc.bin --max-instructions 1000"
tracectl record $options --fault adc-carry -o faulty.vmtrace >/dev/null
tracectl fill faulty.vmtrace -o none.vmtrace | sed -n '1,2p'
echo "status ${PIPESTATUS[0]}"
echo "== what cannot be"
tracectl record $options --level exits -o exits.vmtrace >/dev/null
tracectl fill exits.vmtrace -o none.vmtrace
echo "status $?"
tracectl fill longmode.vmtrace -o longmode.vmtrace
echo "status $?"
tracectl fill longmode.vmtrace -o no/such/folder.vmtrace
echo "status $?"
ls none* *.part* 2>/dev/null
true
