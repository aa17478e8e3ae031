# For 1 to 16 nodes, whoever numbers them: the shards' results together are those of a run without shards, also where a
# shard was killed and run again, and a shard for which nothing is left succeeds.
for guest in hello selfmod exerciser longmode; do
    for memory in 2M 4M 8M; do
        tracectl record --guest "$GUESTS/$guest.bin" --memory $memory -o "$guest-$memory.vmtrace" >/dev/null
    done
done
tracectl corpus init corpus >/dev/null
tracectl corpus add corpus ./*.vmtrace >/dev/null
tracectl corpus run corpus --cache cache --results whole.jsonl | tail -n 1

same() {
    python3 - "$@" <<'PYTHON'
import json, sys
def results(path):
    lines = [json.loads(line) for line in open(path)]
    for line in lines: line.pop("seconds")
    return sorted(lines, key=lambda line: line["name"])
if results(sys.argv[1]) != results(sys.argv[2]): print("other results in", sys.argv[2])
PYTHON
}

# shard SCHEDULER I N: the variables of node I (from 0) of N
shard() {
    case $1 in
        bazel) echo "TEST_SHARD_INDEX=$2 TEST_TOTAL_SHARDS=$3 TEST_SHARD_STATUS_FILE=touched" ;;
        gtest) echo "GTEST_SHARD_INDEX=$2 GTEST_TOTAL_SHARDS=$3" ;;
        kubernetes) echo "JOB_COMPLETION_INDEX=$2 JOB_COMPLETIONS=$3" ;;
        slurm) echo "SLURM_ARRAY_TASK_ID=$((7 + $2)) SLURM_ARRAY_TASK_MIN=7 SLURM_ARRAY_TASK_MAX=$((6 + $3)) SLURM_ARRAY_TASK_COUNT=$3" ;;
        gitlab) echo "CI_NODE_INDEX=$(($2 + 1)) CI_NODE_TOTAL=$3" ;;
        buildkite) echo "BUILDKITE_PARALLEL_JOB=$2 BUILDKITE_PARALLEL_JOB_COUNT=$3" ;;
    esac
}
# replay_shard SCHEDULER I N
replay_shard() {
    local words=() variables=()
    if [ "$1" = option ]; then words=(--shard "$2/$3"); else read -ra variables <<<"$(shard "$1" "$2" "$3")"; fi
    env "${variables[@]}" tracectl corpus run corpus --cache cache --results "shard-$2.jsonl" "${words[@]}" \
        >/dev/null 2>"said-$2.txt"
}

for scheduler in bazel gtest kubernetes slurm gitlab buildkite option; do
    # All of them for every scheduler: SHARD_COUNTS="$(seq 1 16)", as the soak has it.
    counts=${SHARD_COUNTS:-1 5 16}
    [ $scheduler = option ] && counts=$(seq 1 16)
    for count in $counts; do
        rm -f shard-*.jsonl
        for index in $(seq 0 $((count - 1))); do
            replay_shard $scheduler "$index" "$count" || echo "$scheduler $index/$count: status $?" &
        done
        wait
        tracectl corpus merge shard-*.jsonl --corpus corpus -o merged.jsonl >/dev/null || echo "merge: status $?"
        same whole.jsonl merged.jsonl
    done
    [ $scheduler = option ] || cat said-15.txt
done
ls touched

echo "== a shard that is killed and run again"
tracectl corpus run corpus --shard 0/2 --results first.jsonl >/dev/null
tracectl corpus run corpus --shard 1/2 --jobs 1 --results second.jsonl >/dev/null &
until [ -s second.jsonl ]; do sleep 0.01; done
{ kill -9 $!; wait $!; } 2>/dev/null  # the shell announces the death, at either of the two
cp second.jsonl killed.jsonl
tracectl corpus merge first.jsonl killed.jsonl --corpus corpus -o merged.jsonl >/dev/null 2>&1
echo "status of the merge before: $?"
tracectl corpus run corpus --shard 1/2 --results second.jsonl >/dev/null
tracectl corpus merge killed.jsonl second.jsonl first.jsonl --corpus corpus -o merged.jsonl
same whole.jsonl merged.jsonl

echo "== the list of a shard"
tracectl corpus run corpus --list --shard 0/1 | wc -l
for index in 0 1 2; do tracectl corpus run corpus --list --shard $index/3; done | sort | uniq -c | awk '$1 != 1'
echo "== numbers that make no sense"
tracectl corpus run corpus --shard 3/3 || echo "status $?"
tracectl corpus run corpus --shard 3 || echo "status $?"
JOB_COMPLETION_INDEX=1 tracectl corpus run corpus || echo "status $?"
