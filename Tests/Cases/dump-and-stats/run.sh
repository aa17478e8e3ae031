tracectl record --guest "$GUESTS/hello.bin" -o hello.vmtrace >/dev/null
tracectl dump hello.vmtrace --exits 0..1
tracectl dump hello.vmtrace --exits 0..1 --json | python3 -c '
import json, sys
for line in sys.stdin:
    step = json.loads(line)
    print(step["step"], step["exit"]["reason"], step["exit"]["port"], step["rip"] if "rip" in step else step["registers"]["rip"])'
tracectl dump hello.vmtrace --reason halted | wc -l
tracectl stats hello.vmtrace --json | python3 -c '
import json, sys
stats = json.load(sys.stdin)
print(stats["steps"]["count"], sum(entry["count"] for entry in stats["exits"]))'
tracectl info hello.vmtrace --json | python3 -c '
import json, sys
info = json.load(sys.stdin)
print(info["stepCount"], info["isComplete"], info["level"])'
