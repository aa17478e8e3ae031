# needs: tool cc
# A client of /dev/kvm is answered from its trace, and /dev/kvm is not opened: it runs on machines that have none. What
# it does is compared, exit by exit. The trace is kvm_client's with the word count, completed by tracectl fill.
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_client.c" -pthread -o kvm_client || exit
guest=$ROOT/Tests/Interposer/kvm_guest.bin
trace=$ROOT/Tests/Interposer/kvm_client.vmtrace
for words in count other slots "rounds=2"; do
    echo "== $words"
    tracectl replay --against-client "$trace" -- ./kvm_client "$guest" $words >out.txt 2>verdict.txt
    echo "status $?"
    tail -n 1 out.txt
    sed -n '1p; s/^  \(answers\|machine\|memory\|commits\|events\|exits\):.*/  \1/p' verdict.txt
done
echo "== as JSON"
tracectl replay --json --against-client "$trace" -- ./kvm_client "$guest" 2>&1 >/dev/null |
    grep -o '"\(exitCount\|identical\|missingCount\)" : [a-z0-9]*'
echo "== a client that goes on after the recording"
tracectl replay --against-client "$trace" -- ./kvm_client "$guest" exits=1000 >/dev/null 2>verdict.txt
echo "status $?"
cat verdict.txt
echo "== what cannot be"
tracectl replay --against-client "$trace" -- true
echo "status $?"
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    echo "== recorded here"
    tracectl record -o here.vmtrace -- ./kvm_client "$guest" >/dev/null 2>&1
    tracectl replay --against-client here.vmtrace -- ./kvm_client "$guest" 2>&1 >/dev/null | sed 's/.*: lacks/lacks/'
    tracectl fill here.vmtrace -o filled.vmtrace | sed 's/[0-9]* steps/steps/'
    tracectl replay --against-client filled.vmtrace -- ./kvm_client "$guest" 2>&1 >/dev/null | sed 's/[0-9]* exits/exits/'
else
    printf '== recorded here\nlacks what the guest wrote to memory: tracectl fill adds it, or record it with --level client\n'
    printf 'filled steps: every one replayed identical\ntracectl: identical: exits\n'
fi
