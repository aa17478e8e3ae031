# needs: tool cc
# Clients that are killed, that become another program, that meet a dead drainer or a file that cannot be: they go on.
. "$ROOT/Tests/Interposer/build.sh"
./client >plain
echo "exec:"
./dump_records ring ring -- ./client exec | tail -n 6
VMTRACE_RAW=raw recorded ./client exec >/dev/null && ./dump_records raw raw | tail -n 6
echo "killed:"
./dump_records ring ring -- ./client killed | tail -n 3
echo "two threads and a signal handler:"
./dump_records ring ring quiet -- ./client threads
echo "the drainer is dead:"
./dump_records ring ring quiet dead -- ./client runs 5000
echo "the drainer is dead, and records may be lost:"
./dump_records ring ring quiet dead drop -- ./client runs 5000
for setting in VMTRACE_RAW=raw VMTRACE_RAW=none/raw VMTRACE_RING=none VMTRACE_RING=plain; do
    echo "$setting:"
    (export "${setting?}" && recorded ./client 2>said >recording && cat said && cmp plain recording)
done
(ulimit -f 1000 && VMTRACE_RAW=limited recorded ./client 2>said >recording && cat said && cmp plain recording)
