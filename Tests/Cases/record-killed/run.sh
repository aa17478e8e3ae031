# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# Clients, their drainer, or both are killed at random moments, in 20 rounds; KILL_ROUNDS sets how many.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/Interposer/io_client.c" io_client
export LD_LIBRARY_PATH=$prefix/lib
EXITS=30000 "$ROOT/Scripts/kill_clients.sh" "$(command -v tracectl)" "$PWD/io_client" "${KILL_ROUNDS:-20}" "$RANDOM"
echo "status $?"
