# needs: tool cc
# A client that runs for ever is killed at 20 moments, recorded into a ring and into a raw file in turn: what it wrote
# is readable, and at most the record in flight of its one thread is missing. KILL_ROUNDS sets how many.
. "$ROOT/Tests/Interposer/build.sh"
rounds=${KILL_ROUNDS:-20} readable=0
for ((round = 1; round <= rounds; round++)); do
    ms=$((10 + RANDOM % 40))
    rm -f raw
    if ((round % 2)); then
        ./dump_records ring ring quiet kill "$ms" -- ./client runs 1000000000 >said
        pattern='^missing [01], told of losses no, lost no, refused 0, off 0, status 137$'
    else
        VMTRACE_RAW=raw LD_PRELOAD=$SHIM ./client runs 1000000000 >/dev/null & client=$!
        until [ -s raw ]; do sleep 0.01; done
        sleep "0.0$ms"
        { kill -KILL "$client" && wait "$client"; } 2>/dev/null
        ./dump_records raw raw | tail -n 1 >said
        pattern='^missing [01], cut off [0-9]*$'
    fi
    if grep -q "$pattern" said; then readable=$((readable + 1)); else echo "round $round, $ms ms: $(cat said)"; fi
done
((readable == rounds)) && echo "all readable"
