# Runs compared in turns, as median ratios. To be sourced; needs $work, a folder, $rounds, and the array client, the
# plain command.

# seconds COMMAND...: wall-clock time, whatever its status.
seconds() {
    local begin=$EPOCHREALTIME
    "$@" >/dev/null 2>&1 || true
    awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.4f\n", b - a }'
}
median() { sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }
# compare NAME TARGET COMMAND...: the median of its times over the plain ones', each pair in one round; COMMAND is put
# before the client. What it leaves in $work/log is its size.
compare() {
    local name=$1 target=$2 plain other bytes=""
    shift 2
    for ((round = 0; round < rounds; round++)); do
        plain=$(seconds "${client[@]}")
        rm -f "$work"/log*
        other=$(seconds "$@" "${client[@]}")
        awk -v a="$plain" -v b="$other" 'BEGIN { printf "%.3f %.4f\n", b / a, a }'
    done >"$work/pairs"
    [ ! -e "$work/log" ] || bytes=", $(stat -c %s "$work/log") bytes"
    echo "  $name: $(cut -d' ' -f1 "$work/pairs" | median) times the plain run of" \
        "$(cut -d' ' -f2 "$work/pairs" | median) s${target:+ (target $target)}$bytes"
}
