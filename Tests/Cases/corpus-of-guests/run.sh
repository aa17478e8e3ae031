# needs: file /usr/share/seabios/bios.bin
# needs: tool cc
# A corpus of more than 60 recordings of the project's own guests replays as expected, and a backend with a wrong ADC
# fails on the traces whose guests have one and on no others: the sources say which these are, the firmware has many.
source "$CASES/libnvmm.sh"
"$ROOT/Samples/corpus/build.sh" tracectl corpus "$prefix" >built.txt 2>/dev/null || echo "status $?"
count=$(tracectl corpus list corpus --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["traces"]))')
[ "$count" -ge 60 ] || echo "only $count traces"
tracectl corpus run corpus --results results.jsonl --junit report.xml >run.txt
echo "status $?"
[ "$(wc -l <results.jsonl)" = "$count" ] || echo "$(wc -l <results.jsonl) results"
[ "$(cat run.txt)" = "$count traces of corpus: $count as expected" ] || cat run.txt

echo "== a wrong ADC"
tracectl corpus run corpus --fault adc-carry --results faulty.jsonl >faulty.txt
echo "status $?"
grep -lw 'adc' "$GUESTS"/*.asm | xargs -n 1 basename -s .asm >executing.txt
python3 - <<'PYTHON'
import json
guests = open("executing.txt").read().split() + ["firmware"]
for line in open("faulty.jsonl"):
    result = json.loads(line)
    # KVM's own processor executed those; the backend that replays is the faulty one all the same.
    expected = any(guest in result["name"] for guest in guests)
    if (result["verdict"] == "different") != expected:
        print(result["name"], result["verdict"])
    if expected and not result["divergence"]["instruction"].startswith("adc "):
        print(result["name"], result["divergence"])
print(" ".join(guests))
PYTHON

echo "== what is shared"
python3 - <<'PYTHON'
import re
text = open("built.txt").read()
unit = {"KiB": 1, "MiB": 1024}
traces, tracesUnit, pages, pagesUnit = re.search(r"traces, ([\d.]+) (\wiB); .* in common, ([\d.]+) (\wiB)", text).groups()
together = float(traces) * unit[tracesUnit] + float(pages) * unit[pagesUnit]
print("smaller together:", together < float(re.search(r"itself: (\d+) KiB", text).group(1)))
PYTHON
tracectl corpus remove corpus firmware-cpus firmware-16M-1000
tracectl corpus prune corpus | tail -n 1 | sed 's/[0-9.]* [KMG]iB freed/some freed/; s/and [0-9]* pages/and pages/'
tracectl corpus prune corpus
tracectl corpus run corpus --select firmware | sed 's/^[0-9]* traces/traces/; s/[0-9]* as/all as/'
tracectl corpus remove corpus $(tracectl corpus list corpus --json |
    python3 -c 'import json, sys; print(*[t["name"] for t in json.load(sys.stdin)["traces"] if t["name"] != "hello-2M"])')
tracectl corpus prune corpus >/dev/null
tracectl corpus list corpus | tail -n 1 | sed 's/[0-9.]* [KMG]iB/some/g; s/, [0-9,]* bytes/, some/'
