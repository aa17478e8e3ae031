# needs: tool cc
# needs: tool pkg-config
# needs: tool swiftc
# tracectl runs a client of libnvmm and sees to its trace, whatever way the client ends.
. "$CASES/libnvmm.sh"
build "$ROOT/Samples/clients/hello.c" hello
build "$ROOT/Tests/CNVMM/writing_client.c" writing
export LD_LIBRARY_PATH=$prefix/lib
first() { sed -n '1s/[0-9,]* steps/steps/p'; }

tracectl record -o hello.vmtrace -- ./hello
tracectl replay hello.vmtrace | first
tracectl stats hello.vmtrace | sed -n '/^system calls with/,/events/p'
echo "== the command's status is ours"
tracectl record -o status.vmtrace -- sh -c './hello; exit 7'
echo "status $?"
echo "== killed: what it recorded is there"
tracectl record -o killed.vmtrace -- ./writing 20
echo "status $?"
tracectl replay killed.vmtrace | first
ls killed*
echo "== level exits"
tracectl record --level exits -o exits.vmtrace -- ./writing
tracectl replay exits.vmtrace
echo "== what cannot be"
tracectl record -o none.vmtrace -- true
echo "status $?"
tracectl record -o none.vmtrace -- ./no-such-client
echo "status $?"
tracectl record --guest hello -o none.vmtrace -- ./hello 2>/dev/null
echo "status $?"
tracectl record -o - -- ./hello 2>/dev/null
echo "status $?"
ls none* 2>/dev/null
true
