#!/usr/bin/env bash
# Builds and runs all tests, then prints counts and every skipped test by name with its reason.
# Arguments go to `swift test`, such as: Scripts/test.sh --filter ReplayTests
# One configuration for everything that `make` builds: an interpreter without optimisation is tens of times slower.
set -uo pipefail
cd "$(dirname "$0")/.."

# A crashed process whose backtracer stays alive would hold the pipe open.
export SWIFT_BACKTRACE=enable=no
flags=(-c release -Xswiftc -enable-testing)
jobs=${JOBS:-$(nproc)}

started=$SECONDS
# Builds the products too: the end-to-end tests run the tracectl that stands beside the test bundle.
swift build "${flags[@]}" -j "$jobs" --build-tests || { echo "the build failed: nothing was tested"; exit 1; }
built=$SECONDS

events=$(mktemp)
trap 'rm -f "$events"' EXIT
swift test "${flags[@]}" -j "$jobs" --skip-build --disable-xctest --event-stream-output-path "$events" "$@"
status=$?
echo
echo "build $((built - started)) s, tests $((SECONDS - built)) s"
python=/usr/bin/python3
[ -x "$python" ] || python=python3
"$python" Scripts/summarize_tests.py "$events" "$status"
