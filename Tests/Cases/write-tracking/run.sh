# needs: tool cc
# needs: file /dev/userfaultfd
# Pages that a client wrote, found by the kernel's asynchronous write protection (Linux 6.7), with no privilege.
cc -std=c11 -O1 -Wall -Wextra -Wpedantic -Werror -pthread "-I$ROOT/Sources/CWriteTracking/include" \
    "$ROOT/Sources/CWriteTracking/write_tracking.c" "$ROOT/Tests/CWriteTracking/track_writes.c" -o track_writes
./track_writes 1
for seed in 2 3 4 5; do ./track_writes "$seed" | grep -v '^ok'; done
true
