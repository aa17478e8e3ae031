# Nine instructions, and a backend whose ADC forgets the carry: the report names its place, its text and what differs.
printf '\xf9\xb8\x01\x00\x15\x02\x00\xe6\x80\xb0\x01\xe6\xf4' > adc.bin   # stc; mov ax, 1; adc ax, 2; out 0x80, al; ...
tracectl record --guest adc.bin --max-instructions 1000 -o adc.vmtrace >/dev/null
tracectl replay adc.vmtrace --fault adc-carry > report.txt; echo "replay: $?"
sed -n '/^Wrong instruction/,/^$/p' report.txt
tracectl replay adc.vmtrace --fault adc-carry --resync | head -n 2
tracectl replay adc.vmtrace --fault no-such-fault; echo "unknown fault: $?"
