# needs: tool cc
# needs: tool pkg-config
# needs: tool nasm
# The clients build as their first lines say, against an installed prefix; any library with the interface will do.
# Their guests are what their sources assemble to.
prefix=$PWD/prefix
mkdir -p "$prefix/lib/pkgconfig" copy/Samples copy/Tests
cp -r "$ROOT/Sources/CNVMM/include" "$prefix/include"
sed "s|@PREFIX@|$prefix|" "$ROOT/Scripts/nvmm.pc.in" >"$prefix/lib/pkgconfig/nvmm.pc"
cc -std=c11 -Wall -Wextra -Werror -shared -fPIC -Wl,-soname,libnvmm.so.2 "-I$prefix/include" \
    "$ROOT/Tests/Interposer/fake_nvmm.c" -o "$prefix/lib/libnvmm.so.2"
ln -s libnvmm.so.2 "$prefix/lib/libnvmm.so"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
CC="cc -Werror" "$ROOT/Samples/clients/build.sh" "$PWD/built"
for client in errno_client qemu_sequence; do
    # shellcheck disable=SC2046
    cc -std=c11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/CNVMM/$client.c" $(pkg-config --cflags --libs nvmm) \
        -o "built/$client"
done
(cd built && ls)

cp -r "$ROOT/Samples/clients" copy/Samples
cp -r "$ROOT/Tests/CNVMM" copy/Tests
copy/Samples/clients/build.sh
for header in Samples/clients/lapic_guest.h Samples/clients/twocpus_guest.h Tests/CNVMM/qemu_guest.h; do
    cmp "copy/$header" "$ROOT/$header" && echo "$header is as assembled"
done
