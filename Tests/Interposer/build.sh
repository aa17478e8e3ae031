# To be sourced in an empty folder: builds the shim, a fake libnvmm, the client and the simplest drainer there.
# $ROOT is the repository. Afterwards `recorded CLIENT...` runs a client under the shim.
include=("-I$ROOT/Sources/CRing/include" "-I$ROOT/Sources/CNVMM/include" "-I$ROOT/Sources/Interposer/include")
flags=(-std=c11 -O1 -g -Wall -Wextra -Wpedantic -Werror "${include[@]}")
cc "${flags[@]}" -shared -fPIC "$ROOT"/Sources/Interposer/*.c "$ROOT/Sources/CRing/ring.c" \
    -o libvmtrace.so || exit
cc "${flags[@]}" -shared -fPIC -Wl,-soname,libnvmm.so.2 "$ROOT/Tests/Interposer/fake_nvmm.c" -o libnvmm.so.2 || exit
cc "${flags[@]}" "$ROOT/Tests/Interposer/shim_client.c" ./libnvmm.so.2 -Wl,-rpath,"$PWD" -pthread -o client || exit
cc "${flags[@]}" "$ROOT/Tests/Interposer/dump_records.c" "$ROOT/Sources/CRing/ring.c" -o dump_records || exit
export SHIM=$PWD/libvmtrace.so
recorded() { LD_PRELOAD=$SHIM "$@"; }
