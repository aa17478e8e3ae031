# needs: tool cc
# needs: file /usr/share/seabios/bios.bin
# What whatif predicts for a policy from a recording under another one is what a run under that policy counts: the
# firmware's boot, and clients of libnvmm that read and write state in their own ways.
source "$CASES/libnvmm.sh"
cat >nothing.toml <<'TOML'
TOML
cat >everything.toml <<'TOML'
NONE = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
IO = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
MEMORY = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
HALTED = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
INT_READY = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
NMI_READY = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
SHUTDOWN = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
CPUID = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
RDMSR = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
WRMSR = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
TPR_CHANGED = ["segments", "gprs", "crs", "drs", "msrs", "interrupt", "fpu"]
TOML
printf 'IO = ["gprs"]\nMEMORY = ["gprs", "segments"]\nHALTED = ["interrupt"]\n' >some.toml

# predicted TRACE POLICY: what whatif says of the trace under that policy
predicted() { tracectl whatif "$1" --policy "$2" --json | python3 -c 'import json, sys
print(next(row["systemCalls"] for row in json.load(sys.stdin)["rows"] if row["interface"].endswith(sys.argv[1])))' "$2"; }
counted() { tracectl stats "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["calls"]["systemCalls"])'; }

# compare NAME RECORD...: records under each policy, and holds the prediction from the first recording against each
compare() {
    local name=$1
    shift
    # The options go before the command.
    "${@:1:2}" -o "$name.vmtrace" "${@:3}" >/dev/null 2>&1
    tracectl whatif "$name.vmtrace" --best best.toml --json >"$name.json"
    for policy in nothing everything some best; do
        "${@:1:2}" --comm-page $policy.toml -o "$name-$policy.vmtrace" "${@:3}" >/dev/null 2>&1
        p=$(predicted "$name.vmtrace" $policy.toml) c=$(counted "$name-$policy.vmtrace")
        [ "$p" = "$c" ] && echo "$name, $policy: as predicted" || echo "$name, $policy: $p predicted, $c counted"
    done
    python3 - "$name.json" "$(counted "$name.vmtrace")" "$(tracectl stats "$name.vmtrace" --json)" <<'PYTHON'
import json, sys
rows = {row["interface"]: row["systemCalls"] for row in json.load(open(sys.argv[1]))["rows"]}
under = json.loads(sys.argv[3])["calls"]["underInterface"]
print(" NVMM's own:", rows["state and events, NVMM's policy"] == int(sys.argv[2]) == under["commPageForStateAndEvents"],
      rows["state, NVMM's policy"] == under["commPageForState"], rows["no comm page"] == under["noCommPage"])
print(" none is better than the best:", all(count >= rows["state and events, the best"] for count in rows.values()))
PYTHON
}

compare boot tracectl record --firmware /usr/share/seabios/bios.bin --disk "$GUESTS/bootdisk.bin"
compare exerciser tracectl record --guest "$GUESTS/exerciser.bin"
export LD_LIBRARY_PATH=$prefix/lib
build "$ROOT/Samples/clients/hello.c" hello
compare hello tracectl record -- ./hello
# Their threads make no two runs alike: each recording is held against what whatif says of it under its own policy.
for client in lapic twocpus; do
    build "$ROOT/Samples/clients/$client.c" $client
    for policy in nothing everything some; do
        tracectl record --comm-page $policy.toml -o $client.vmtrace -- ./$client >/dev/null 2>&1
        p=$(predicted $client.vmtrace $policy.toml) c=$(counted $client.vmtrace)
        [ "$p" = "$c" ] && echo "$client, $policy: as counted" || echo "$client, $policy: $p predicted, $c counted"
    done
done
echo "== a recording under a policy replays"
tracectl replay boot-some.vmtrace | head -n 1
tracectl replay hello-best.vmtrace | head -n 1
echo "== trouble"
echo 'PORT = ["gprs"]' >wrong.toml
tracectl whatif boot.vmtrace --policy wrong.toml; echo "status $?"
echo 'IO = ["rax"]' >wrong.toml
tracectl whatif boot.vmtrace --policy wrong.toml; echo "status $?"
echo 'IO = 3' >wrong.toml
tracectl whatif boot.vmtrace --policy wrong.toml; echo "status $?"
NVMM_COMM_PAGE=IO=gprs ./hello; echo "status $?"
