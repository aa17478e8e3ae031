# Exports hold what dump and stats say, in windows too, and appear under their names only when they are whole.
tracectl record --guest "$GUESTS/exerciser.bin" --time -o guest.vmtrace >/dev/null
tracectl dump guest.vmtrace --json >dump.jsonl
tracectl stats guest.vmtrace --json >stats.json
tracectl export guest.vmtrace --format jsonl -o out.jsonl && cmp dump.jsonl out.jsonl
tracectl export guest.vmtrace --format jsonl --from 10 --to 19 -o - | cmp - <(sed -n 11,20p dump.jsonl)
tracectl export guest.vmtrace --format csv -o out.csv
tracectl export guest.vmtrace --format sqlite -o out.sqlite
tracectl export guest.vmtrace --format sqlite --from 100 --to 149 -o window.sqlite
python3 - <<'PYTHON'
import csv, json, sqlite3
dump = [json.loads(line) for line in open("dump.jsonl")]
stats = json.load(open("stats.json"))
rows = list(csv.DictReader(open("out.csv", newline="")))
print("rows:", len(rows) == len(dump) == stats["steps"]["count"])
def same(step, row):
    io = step["exit"]["reason"] == "IO"
    return (int(row["number"]) == step["step"] and row["reason"] == step["exit"]["reason"]
            and int(row["rip"]) == int(step["registers"]["rip"], 16) and int(row["clock"]) == step["clock"]
            and int(row["retired"]) == step["retired"] and row["committed"].split() == step["committed"]
            and (not io or int(row["port"]) == int(step["exit"]["port"], 16))
            and int(row["guest_ns"]) == step["guestNanoseconds"])
print("each is that of dump:", all(same(step, row) for step, row in zip(dump, rows)))
database = sqlite3.connect("out.sqlite")
one = lambda query: database.execute(query).fetchone()[0]
print("sqlite has the same rows:", [
    tuple("" if value is None else str(value % 2**64 if isinstance(value, int) else value) for value in row)
    for row in database.execute("SELECT * FROM step ORDER BY number")] == [tuple(row.values()) for row in rows])
print("calls are those of stats:", [one(f"SELECT count(*) FROM call WHERE kind = '{kind}'") for kind in ("getState", "setState", "inject")]
      == [stats["calls"]["getState"], stats["calls"]["setState"], stats["calls"]["inject"]])
print("getstates that missed:", one("SELECT count(*) FROM call WHERE kind = 'getState' AND is_system_call")
      + stats["calls"]["run"] + stats["calls"]["machine"] == stats["calls"]["systemCalls"])
print("writes:", [one("SELECT count(*) FROM memory_write"), one("SELECT total(byte_count) FROM memory_write")]
      == [stats["memoryWrites"]["count"], stats["memoryWrites"]["byteCount"]])
window = sqlite3.connect("window.sqlite")
print("window:", window.execute("SELECT min(number), max(number), count(*) FROM step").fetchone())
PYTHON
echo "== trouble"
tracectl export guest.vmtrace --format csv --from 100000 -o none.csv; echo "status $?"
tracectl export guest.vmtrace --format sqlite -o -; echo "status $?"
tracectl export missing.vmtrace --format csv -o none.csv; echo "status $?"
tracectl export guest.vmtrace --format csv -o nowhere/none.csv; echo "status $?"
tracectl export guest.vmtrace --format csv -o - | head -n 1 | cut -d , -f 1-4
tracectl export guest.vmtrace --format perfetto -o /dev/full; echo "status $?"
[ -c /dev/full ] || echo "/dev/full is gone"
tracectl report guest.vmtrace -o /dev/full; echo "status $?"
tracectl export guest.vmtrace --format sqlite -o /dev/full; echo "status $?"
ls none* *.part* 2>/dev/null
true
