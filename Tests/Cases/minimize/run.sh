# needs: file /usr/share/seabios/bios.bin
# A boot of firmware with a wrong instruction becomes one step with a few bytes of memory, which shows the same.
tracectl record --firmware /usr/share/seabios/bios.bin --disk "$GUESTS/bootdisk.bin" -o boot.vmtrace >/dev/null
for fault in lea-index adc-carry; do
    echo "== $fault"
    tracectl minimize boot.vmtrace --fault $fault -o small-$fault.vmtrace --json >report.json
    echo "status $?"
    python3 - <<'PYTHON'
import json
report = json.load(open("report.json"))
print("under 5 % of the steps:", report["stepsAfter"] * 20 < report["stepsBefore"])
print("under 5 % of the bytes:", report["bytesAfter"] * 20 < report["bytesBefore"])
PYTHON
    for trace in boot small-$fault; do
        tracectl replay $trace.vmtrace --fault $fault >$trace.txt
        echo "status $?"
        sed -n '/^Wrong instruction/,/^$/p' $trace.txt | grep -E '^ +rip|^\*' >$trace.found
    done
    cmp boot.found small-$fault.found && head -n 1 boot.found
    tracectl verify small-$fault.vmtrace >/dev/null && tracectl replay small-$fault.vmtrace | head -n 1
done
echo "== in a corpus"
tracectl corpus init corpus >/dev/null
tracectl corpus add corpus small-lea-index.vmtrace >/dev/null
tracectl corpus run corpus
tracectl corpus run corpus --fault lea-index
echo "== trouble"
tracectl minimize boot.vmtrace -o none.vmtrace; echo "status $?"
tracectl minimize boot.vmtrace --fault lea-index -o ./boot.vmtrace; echo "status $?"
tracectl minimize missing.vmtrace -o none.vmtrace; echo "status $?"
ls none.vmtrace* small-*.part small-*.candidate 2>/dev/null
true
