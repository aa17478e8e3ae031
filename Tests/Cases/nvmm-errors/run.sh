# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Every error of the interface, from C.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/CNVMM/errno_client.c" errors
alone ./errors | grep -v '^ok '
exit "${PIPESTATUS[0]}"
