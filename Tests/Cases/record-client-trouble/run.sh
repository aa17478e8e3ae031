# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# What goes wrong around a recorded client: it goes on, and the trace says where it ends.
. "$CASES/libnvmm.sh"
build "$ROOT/Tests/Interposer/io_client.c" io_client
export LD_LIBRARY_PATH=$prefix/lib
first() { sed -n '1s/[0-9,]* steps/steps/p'; }

echo "== a limit on file size stands in for a full disk"
(
    ulimit -f 20000
    tracectl record -o full.vmtrace -- ./io_client 6000 noise
    echo "status $?"
)
tracectl repair full.vmtrace -o whole.vmtrace | sed 's/[0-9,]\{2,\}/N/g'
tracectl replay whole.vmtrace | first
rm -f full.vmtrace*
echo "== the drainer sleeps: records may be lost"
tracectl record --drop -o drop.vmtrace -- sh -c './io_client 60000 & kill -STOP $PPID; wait; kill -CONT $PPID' 2>/dev/null
echo "status $?"
tracectl info drop.vmtrace | grep -q 'events lost: [1-9]' && echo "the trace says so"
tracectl verify drop.vmtrace >/dev/null && echo verified
echo "== the drainer sleeps for seconds: the client goes on unrecorded"
tracectl record -o dead.vmtrace -- sh -c './io_client 150000 & kill -STOP $PPID; wait; kill -CONT $PPID' \
    2>&1 | grep -c 'not drained for a second'
tracectl replay dead.vmtrace | first
echo "== two clients of one command"
tracectl record -o two.vmtrace -- sh -c './io_client 100 && ./io_client 100'
tracectl replay two.vmtrace | first
echo "== what was left is not overwritten"
: >kept.vmtrace.open.ring
tracectl record -o kept.vmtrace -- ./io_client 10
echo "status $?"
tracectl record --guest io_client -o kept.vmtrace
echo "status $?"
echo "== what cannot be"
printf 'int main(void) { return 0; }\n' >plain.c
cc -static plain.c -o static-program
tracectl record -o none.vmtrace -- ./static-program
echo "status $?"
cp io_client raised && chown 1 raised 2>/dev/null && chmod u+s raised
if [ -u raised ]; then tracectl record -o none.vmtrace -- ./raised 10; else echo "tracectl: ./raised: is set-user-ID" >&2; false; fi
echo "status $?"
# The first bytes of a 32-bit program; nothing more is looked at.
printf '\177ELF\001' >narrow && chmod +x narrow
tracectl record -o none.vmtrace -- ./narrow
echo "status $?"
VMTRACE_LIBRARY=/nowhere/libvmtrace.so tracectl record -o none.vmtrace -- ./io_client 10
echo "status $?"
tracectl record --drop --guest io_client -o none.vmtrace 2>/dev/null
echo "status $?"
tracectl import io_client -o none.vmtrace
echo "status $?"
tracectl import no-such-file -o none.vmtrace
echo "status $?"
shim=$(dirname "$(command -v tracectl)")/libvmtrace.so
VMTRACE_RAW=io.raw LD_PRELOAD=$shim ./io_client 100
tracectl import io.raw -o io.raw
echo "status $?"
echo "== a damaged file of records"
cp io.raw damaged.raw
head -c 8192 /dev/zero >>damaged.raw
tracectl import damaged.raw -o damaged.vmtrace | sed '1s/[0-9,]* exits/exits/'
echo "status ${PIPESTATUS[0]}"
tracectl verify damaged.vmtrace >/dev/null && echo verified
head -c 20 io.raw >short.raw
tracectl import short.raw -o none.vmtrace
echo "status $?"
ls none* 2>/dev/null
true
