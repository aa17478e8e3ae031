# What cannot be booted is refused with what would help, and leaves no trace behind.
head -c 640000 /dev/zero > large.bin
printf '\x7fELF' > stub
# An ELF header for x86-64 without program headers, as an object file has.
{ printf '\x7fELF\x02\x01\x01'; head -c 9 /dev/zero; printf '\x01\0\x3e\0\x01\0\0\0'; head -c 40 /dev/zero; } > object.o
# One segment far above any memory.
{
    printf '\x7fELF\x01\x01\x01'; head -c 9 /dev/zero; printf '\x02\0\x03\0\x01\0\0\0\0\0\0\x80\x34\0\0\0\0\0\0\0'
    printf '\0\0\0\0\x34\0\x20\0\x01\0\0\0\0\0\0\0'
    printf '\x01\0\0\0\0\0\0\0\0\0\0\x80\0\0\0\x80\x10\0\0\0\x10\0\0\0\x05\0\0\0\0\x10\0\0'
} > high.elf
for image in large.bin stub object.o high.elf; do
    tracectl record --guest $image -o x.vmtrace; echo "$image: $?"
done
# The setup header of a Linux kernel, of protocol 2.11, and nothing behind it.
{ head -c 514 /dev/zero; printf 'HdrS\x0b\x02'; head -c 600 /dev/zero; } > kernel
tracectl record --guest kernel -o x.vmtrace; echo "kernel as guest: $?"
for image in kernel large.bin stub; do
    tracectl record --kernel $image -o x.vmtrace; echo "$image as kernel: $?"
done
tracectl record --guest "$GUESTS/hello.bin" -o /dev/full; echo "full device: $?"
ls
