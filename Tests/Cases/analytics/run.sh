# needs: file .build-python/lib/python3.11/site-packages/duckdb/__init__.py
# CSV exports become Parquet by DuckDB, a partition for each trace; counts over it are those of stats.
python=$ROOT/.build-python/bin/python
for guest in exerciser longmode; do
    tracectl record --guest "$GUESTS/$guest.bin" -o $guest.vmtrace >/dev/null
    tracectl export $guest.vmtrace --format csv -o $guest.csv
    tracectl stats $guest.vmtrace --json >$guest.json
done
"$python" "$ROOT/Samples/analytics/to_parquet.py" exits exerciser.csv longmode.csv
ls -d exits/*
"$python" "$ROOT/Samples/analytics/ask.py" exits "$ROOT/Samples/analytics/queries.sql" >answers.txt && grep -c '^┌' answers.txt
"$python" - <<'PYTHON'
import duckdb, json
database = duckdb.connect()
step = "read_parquet('exits/*/*.parquet', hive_partitioning = true)"
for trace in ("exerciser", "longmode"):
    stats = json.load(open(trace + ".json"))
    rows = dict(database.execute(f"SELECT reason, count(*) FROM {step} WHERE trace = ? GROUP BY 1", [trace]).fetchall())
    print(trace, rows == {exit["reason"]: exit["count"] for exit in stats["exits"]},
          database.execute(f"SELECT sum(retired) FROM {step} WHERE trace = ?", [trace]).fetchone()[0] == stats["steps"]["instructions"])
columns = {line.split()[0] for line in open("exerciser.csv").readline().strip().replace(",", "\n").split("\n")}
text = open(__import__("os").environ["ROOT"] + "/Samples/analytics/clickhouse.sql").read()
print("ClickHouse's table has the same columns:", all(f"{column} " in text for column in columns))
PYTHON
"$python" "$ROOT/Samples/analytics/to_parquet.py" exits 2>&1 | head -n 1
