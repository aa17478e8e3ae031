# needs: device /dev/kvm
# needs: tool cc
# A client of /dev/kvm, its drainer, or both are killed at random moments, in 20 rounds; KILL_ROUNDS sets how many.
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_client.c" -pthread -o kvm_client || exit
# The script's clients take a number of exits.
printf '#!/bin/sh\nexec %s %s exits="$1"\n' "$PWD/kvm_client" "$ROOT/Tests/Interposer/kvm_guest.bin" >client
chmod +x client
EXITS=2500 "$ROOT/Scripts/kill_clients.sh" "$(command -v tracectl)" "$PWD/client" "${KILL_ROUNDS:-20}" "$RANDOM"
echo "status $?"
