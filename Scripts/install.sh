#!/usr/bin/env bash
# Installs libnvmm for clients in C: library, headers, pkg-config file, and the shim that records clients when it is
# preloaded. libnvmm carries its Swift runtime; the shim is C alone.
#   Scripts/install.sh PREFIX      such as /usr/local; DESTDIR before it, where that is set
# BUILT: a folder that has libnvmm.a already; without it the library is built first.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -ne 1 ] || [ "${1#/}" = "$1" ]; then
    echo "usage: Scripts/install.sh PREFIX (an absolute path, such as /usr/local)" >&2
    exit 64
fi
prefix=$1
target=${DESTDIR:-}$prefix

built=${BUILT:-}
if [ -z "$built" ]; then
    flags=(-c release -Xswiftc -enable-testing --package-path "$root")
    swift build "${flags[@]}" --product nvmm
    built=$(swift build "${flags[@]}" --show-bin-path)
fi

mkdir -p "$target/lib/pkgconfig" "$target/include"
# A package's dynamic library would need the Swift runtime at run time; its static one is linked with the runtime here.
# As one object first: symbols of archives are hidden in such a link.
object=$(mktemp --suffix=.o)
trap 'rm -f "$object"' EXIT
ld -r --whole-archive "$built/libnvmm.a" -o "$object"
# The client's signal handlers are installed through functions of the library, and its reads into guest memory go
# through others, which are no part of tracectl.
aliases=()
for alias in sigaction=client_sigaction {,s,bsd_}signal=client_signal {,__}sysv_signal=client_sysv_signal \
    pthread_sigmask=client_sigmask sigprocmask=client_sigprocmask \
    read=client_read __read_chk=client_read_checked pread{,64}=client_pread __pread{,64}_chk=client_pread_checked \
    readv=client_readv preadv{,64}=client_preadv recv=client_recv __recv_chk=client_recv_checked \
    recvfrom=client_recvfrom recvmsg=client_recvmsg; do
    aliases+=(-Xlinker "--defsym=$alias")
done
swiftc -emit-library -static-stdlib -o "$target/lib/libnvmm.so.2" \
    "$object" -lZydis -lzstd -lxxhash \
    -Xlinker -soname=libnvmm.so.2 -Xlinker "--version-script=$root/Scripts/nvmm.map" -Xlinker --gc-sections \
    -Xlinker --strip-debug "${aliases[@]}"
ln -sf libnvmm.so.2 "$target/lib/libnvmm.so"
${CC:-cc} -std=c11 -O2 -Wall -shared -fPIC -I "$root/Sources/CRing/include" -I "$root/Sources/CNVMM/include" \
    -I "$root/Sources/Interposer/include" "$root"/Sources/Interposer/*.c "$root/Sources/CRing/ring.c" \
    -o "$target/lib/libvmtrace.so" -ldl
(cd "$root/Sources/CNVMM/include" && find . -name '*.h') | while read -r header; do
    mkdir -p "$target/include/$(dirname "$header")"
    cp "$root/Sources/CNVMM/include/$header" "$target/include/$header"
done
sed "s|@PREFIX@|$prefix|" "$root/Scripts/nvmm.pc.in" >"$target/lib/pkgconfig/nvmm.pc"
echo "installed libnvmm.so.2, libvmtrace.so, the headers and nvmm.pc in $target"
