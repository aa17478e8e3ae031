# needs: file /usr/share/seabios/bios.bin
# Which instruction of the firmware it is depends on its version; that it is an ADC does not.
source "$CASES/guest-options.sh" bootdisk
tracectl record $options -o boot.vmtrace >/dev/null
tracectl replay boot.vmtrace --fault adc-carry@100 > report.txt; echo "replay: $?"
sed -n '/^Wrong instruction/{n;p}' report.txt | grep -oE ' adc ' | tr -d ' '
