# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# libnvmm goes into an empty prefix; what is built there runs without Swift and without the checkout. Only the interface
# is exported, and every function of the header is.
. "$CASES/libnvmm.sh"
(cd prefix && find . -type f -o -type l | sort)
build "$ROOT/Samples/clients/hello.c" hello
alone ./hello
echo "libraries of Swift: $(LD_LIBRARY_PATH="$prefix/lib" ldd hello | grep -c -i swift)"
echo "those of the shim: $(ldd prefix/lib/libvmtrace.so | grep -c -i swift), beside tracectl" \
    "$(ldd "$(dirname "$(command -v tracectl)")/libvmtrace.so" | grep -c -i swift)"
nm -D --defined-only prefix/lib/libnvmm.so.2 | awk '{ sub(/@.*/, "", $3); print $3 }' | grep '^nvmm_' | sort -u >exported
grep -o 'int nvmm_[a-z_]*(' prefix/include/nvmm.h | sed 's/int //; s/(//' | sort -u >declared
comm -3 exported declared
"$ROOT/Scripts/install.sh" relative
