# What a corpus does with missing, duplicate and damaged traces, wrong pages, crashes, time-outs, Ctrl-C, and read-only
# folders: each is named, and costs no other trace its result.
for guest in hello selfmod exerciser longmode; do
    tracectl record --guest "$GUESTS/$guest.bin" --memory 4M -o "$guest.vmtrace" >/dev/null
done
tracectl record --guest "$GUESTS/hello.bin" --level exits -o exits.vmtrace >/dev/null
echo "== making one"
tracectl corpus run nowhere; echo "status $?"
tracectl corpus init corpus
tracectl corpus init corpus; echo "status $?"
tracectl corpus run corpus; echo "status $?"
tracectl corpus add corpus hello.vmtrace --tag small
tracectl corpus add corpus hello.vmtrace; echo "status $?"
tracectl corpus add corpus hello.vmtrace --name other; echo "status $?"
tracectl corpus add corpus exits.vmtrace; echo "status $?"
tracectl corpus add corpus missing.vmtrace; echo "status $?"
tracectl corpus add corpus selfmod.vmtrace --name ../selfmod; echo "status $?"
head -c 3000 exerciser.vmtrace >cut.vmtrace
tracectl corpus add corpus cut.vmtrace; echo "status $?"
tracectl corpus add corpus selfmod.vmtrace exerciser.vmtrace longmode.vmtrace --tag large >/dev/null
tracectl corpus run corpus --select medium; echo "status $?"
tracectl corpus run corpus --select small; echo "status $?"
echo "== an expected difference that does not come"
tracectl record --guest "$GUESTS/hello.bin" --memory 8M -o hello-8M.vmtrace >/dev/null
cp -r corpus expecting
tracectl corpus add expecting hello-8M.vmtrace --expect different >/dev/null
tracectl corpus run expecting; echo "status $?"
echo "== a damaged trace, a missing one"
cp -r corpus damaged
printf 'X' | dd of=damaged/traces/selfmod.vmtrace bs=1 seek=700 conv=notrunc status=none
rm damaged/traces/hello.vmtrace
tracectl corpus run damaged --junit damaged.xml | sort | sed 's/its digest is [0-9a-f]*, the manifest has [0-9a-f]*/its digest is another/'
echo "status ${PIPESTATUS[0]}"
grep -c '<error' damaged.xml
echo "== the same trace twice, a name that is none"
{ cat corpus/corpus.toml; sed -n '/hello/,$p' corpus/corpus.toml | sed '1i [[trace]]'; } >damaged/corpus.toml
tracectl corpus run damaged; echo "status $?"
sed 's/"hello"/"..\/hello"/' corpus/corpus.toml >damaged/corpus.toml
tracectl corpus list damaged; echo "status $?"
echo "== a wrong page"
cp -r corpus wrong
python3 - <<'PYTHON'
import sqlite3
database = sqlite3.connect("wrong/pages.sqlite")
rows = database.execute("SELECT number, content FROM page ORDER BY number").fetchall()
database.execute("UPDATE page SET content = ? WHERE number = ?", (rows[1][1], rows[0][0]))
database.commit()
PYTHON
tracectl corpus run wrong | sed 's/page [0-9a-f]\{32\}/page NAME/' | sort
echo "status ${PIPESTATUS[0]}"
echo "== a replay that does not end, and one that dies"
tracectl corpus init clients >/dev/null
for guest in hello selfmod; do
    tracectl record --guest "$GUESTS/$guest.bin" --level client -o "$guest-client.vmtrace" >/dev/null
    tracectl corpus add clients "$guest-client.vmtrace" >/dev/null
done
tracectl corpus run clients --against-client --timeout 1 -- sleep 100 | sort; echo "status ${PIPESTATUS[0]}"
cat >dies.sh <<'SCRIPT'
#!/bin/sh
kill -SEGV $$
SCRIPT
chmod +x dies.sh
tracectl corpus run clients --against-client --jobs 1 -- ./dies.sh; echo "status $?"
echo "== nothing may be written"
cp -r corpus readonly
chmod -R a-w readonly
tracectl corpus run readonly; echo "status $?"
chmod -R u+w readonly
echo "== two runs at once"
tracectl corpus run corpus >one.txt & tracectl corpus run corpus >two.txt; wait; cat one.txt two.txt
echo "== Ctrl-C"
bash -c 'exec tracectl corpus run clients --against-client --jobs 1 --results stopped.jsonl -- sleep 100.125' >stopped.txt 2>stopped.err &
sleep 0.7
kill -INT $!
wait $!; echo "status $?"
cat stopped.err stopped.txt
pgrep -f 'sleep 100.125' >/dev/null && echo "a client was left behind"
echo "== results of another build, and what is no result"
tracectl corpus run corpus --results one.jsonl >/dev/null
tracectl corpus run corpus --build next --results two.jsonl >/dev/null
tracectl corpus merge one.jsonl two.jsonl -o both.jsonl
sed 's/"identical"/"different"/2' one.jsonl | grep hello >contradiction.jsonl
tracectl corpus merge one.jsonl contradiction.jsonl -o both.jsonl; echo "status $?"
tracectl corpus merge hello.vmtrace -o both.jsonl; echo "status $?"
