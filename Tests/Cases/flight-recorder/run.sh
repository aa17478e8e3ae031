# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# --ring keeps the newest part of a recording, and a trigger writes it: a trace that replays by itself.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/Interposer/io_client.c" io_client
export LD_LIBRARY_PATH=$prefix/lib
# Sizes and counts vary with the moment.
general() { sed -E 's/[0-9,]+ exits/N exits/; s/step [0-9,]+ on/step N on/; s/, [0-9.]+ [KM]iB//'; }
first() { sed -n '1s/[0-9,]* steps/steps/p'; }

echo "== a triple fault after 50,000 exits"
{
    printf '\xb9\x50\xc3\xb0\x41\xe6\xe9\xe2\xfc\x0f\x01\x1e\x30\x7c\xcd\x03'
    head -c 64 /dev/zero
} >fault.bin
tracectl record --guest fault.bin --ring 1M -o fault.vmtrace 2>&1 | head -n 1 | general
tracectl replay fault.vmtrace | first
tracectl dump fault.vmtrace | tail -n 1 | grep -o 'exit SHUTDOWN'
echo "== a guest that hangs"
printf '\xeb\xfe' >loop.bin
tracectl record --guest loop.bin --ring 1M --trigger stall=500ms -o loop.vmtrace 2>&1 | general
tracectl replay loop.vmtrace | first
echo "== nothing happens"
tracectl record --guest loop.bin --max-instructions 100000 --ring 1M -o none.vmtrace 2>&1 | general
ls none.vmtrace* 2>&1 | sed 's/.*: //'
echo "== a command that a signal ends"
tracectl record --ring 1M -o crash.vmtrace -- sh -c './io_client 50000; kill -SEGV $$' 2>&1 | general
tracectl replay crash.vmtrace | first
echo "== a command that nothing ends, and somebody who wants to see"
tracectl record --ring 1M -o asked.vmtrace -- ./io_client 6000000 >asked.txt 2>&1 &
recorder=$!
sleep 1
kill -USR1 $recorder
while ! grep -q wrote asked.txt; do sleep 0.1; done
# It has the trace while the command goes on.
tracectl replay asked.vmtrace | first | sed 's/,.*//'
wait $recorder
echo "status $?"
general <asked.txt
ls
echo "== what does not go together"
tracectl record --guest loop.bin --trigger shutdown -o none.vmtrace 2>&1 | head -n 1
tracectl record --guest loop.bin --ring 1M --trigger fire -o none.vmtrace 2>&1 | head -n 1
tracectl record --guest loop.bin --ring 5 -o none.vmtrace 2>&1 | head -n 1
tracectl record --guest loop.bin --ring 1M -o nowhere/none.vmtrace 2>&1
tracectl record --ring 1M -o none.vmtrace -- true 2>&1
true
