# needs: file /usr/share/seabios/bios.bin
# The counts of `stats` against those of the reader that was written from the specification alone.
cat > compare.py <<'PYTHON'
import json, sys
ours, theirs = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
print("exits", {entry["reason"]: entry["count"] for entry in ours["exits"]} == theirs["exits"])
print("steps", ours["steps"]["count"] == theirs["steps"])
print("instructions", ours["steps"]["instructions"] == theirs["instructions"])
print("keyframes", ours["keyframeCount"] == theirs["keyframes"])
PYTHON
for name in hello longmode bootdisk; do
    source "$CASES/guest-options.sh" $name
    tracectl record $options -o $name.vmtrace >/dev/null
    tracectl stats $name.vmtrace --json > ours.json
    /usr/bin/python3 "$ROOT/Samples/read_trace.py" --stats $name.vmtrace > theirs.json
    echo "$name:" $(python3 compare.py ours.json theirs.json)
done
