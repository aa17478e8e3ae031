# needs: tool swiftc
# needs: tool clang
# The fuzzers compile and link as `make soak` runs them, their canary crashes, and a thousand inputs each go through.
OPTIMIZATION=-Onone BUILT=$(dirname "$(command -v tracectl)") "$ROOT/Scripts/fuzz.sh" 1000 |
    sed 's/^stat::number_of_executed_units: [1-9][0-9]*$/they ran/; /^stat::/d'
