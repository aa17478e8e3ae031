# needs: file /usr/share/seabios/bios.bin
# Ten places to start from, some of them on a keyframe: the same verdict everywhere.
source "$CASES/guest-options.sh" bootdisk
tracectl record $options --keyframe-every 500 -o boot.vmtrace >/dev/null
for from in 0 1 499 500 501 1000 3333 7500 12345 20000; do
    tracectl replay boot.vmtrace --from $from | head -n 1 | sed 's/all [0-9,]* steps/all steps/'
done
tracectl replay boot.vmtrace --from 3333 --to 3333 | head -n 1 | sed 's/all [0-9,]* steps/some steps/'
tracectl replay boot.vmtrace --from 99999999; echo $?
