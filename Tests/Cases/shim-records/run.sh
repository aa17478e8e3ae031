# needs: tool cc
# needs: tool nm
# The shim above a library with canned exits: what it records, and that the client cannot tell.
. "$ROOT/Tests/Interposer/build.sh"
nm -D -u libvmtrace.so | grep -E 'alloc|free|printf|mutex|fopen' || echo "no allocation, no stdio, no lock"

./client fork >plain
recorded ./client fork >preloaded && cmp plain preloaded && echo "the same results, nothing asked for"
VMTRACE_RAW=raw recorded ./client fork >recording && cmp plain recording && echo "the same results, recorded"
./dump_records raw raw >from-raw
./dump_records ring ring -- ./client fork >from-ring
sed '$d' from-raw
diff <(sed '$d' from-raw) <(sed '$d' from-ring) && echo "raw file and ring say the same"
tail -n 1 from-raw from-ring

# A library that publishes what a run consumed: the same, without guesses.
FAKE_PUBLISH=1 ./dump_records ring ring -- ./client fork >published
diff <(sed 's/ published.*//' from-ring) <(sed 's/ published.*//' published)
echo "with one guess less"
