printf 'this is no trace, whatever its name says; it is long enough to hold a preamble and a header\n' > text.vmtrace
: > empty.vmtrace
head -c 4096 /dev/zero > zeros.vmtrace
for verb in info dump stats verify replay; do
    for file in text empty zeros; do tracectl $verb $file.vmtrace; echo "$verb $file: $?"; done
done
