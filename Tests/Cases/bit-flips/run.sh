# needs: file /usr/share/seabios/bios.bin
source "$CASES/guest-options.sh" bootdisk
tracectl record $options -o boot.vmtrace >/dev/null
python3 "$ROOT/Scripts/flip_bits.py" tracectl boot.vmtrace 25 1 | sed 's/of [0-9]* bytes/of the trace/'
