# needs: device /dev/kvm
# needs: tool cc
# --ring keeps the newest part of a client of /dev/kvm too. Whole it replays; what lost its beginning says so, and can be
# looked at.
cc -std=gnu11 -O1 -Wall -Wextra -Werror "$ROOT/Tests/Interposer/kvm_client.c" -pthread -o kvm_client || exit
general() { sed -E 's/[0-9,]+ exits/N exits/; s/step [0-9,]+ on/step N on/; s/, [0-9.]+ [KM]iB//'; }
for exits in 1000 15000; do
    echo "== $exits exits, then a crash"
    tracectl record --ring 1M -o kept.vmtrace -- \
        sh -c "./kvm_client '$ROOT/Tests/Interposer/kvm_guest.bin' exits=$exits >/dev/null; kill -SEGV \$\$" 2>&1 | general
    tracectl verify kept.vmtrace >/dev/null || echo "does not verify"
    tracectl replay kept.vmtrace >replay.txt
    echo "status $?"
    head -n 1 replay.txt
    [ "$(tracectl stats --json kept.vmtrace | grep -c '"IO"')" -gt 0 ] && echo "has statistics"
done
