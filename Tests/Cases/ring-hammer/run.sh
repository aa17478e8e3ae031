# needs: tool gcc
# The ring between shim and drainer under two sanitizers. clang's thread sanitizer needs libraries of its own here.
for sanitizer in thread address,undefined; do
    gcc -std=c11 -O1 -g -Wall -Wextra -Wpedantic -Werror "-fsanitize=$sanitizer" -pthread \
        "-I$ROOT/Sources/CRing/include" "$ROOT/Sources/CRing/ring.c" "$ROOT/Tests/CRing/hammer.c" -o hammer
    echo "$sanitizer:"
    ./hammer 30000
done
