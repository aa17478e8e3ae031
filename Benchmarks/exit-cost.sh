#!/usr/bin/env bash
# What a run with its exit costs through libnvmm.so, against the same calls inside Swift: rounds of pairs, medians.
# Usage: Benchmarks/exit-cost.sh FIGURES [ROUNDS]    FIGURES: the built benchmark program
set -euo pipefail
cd "$(dirname "$0")/.."
figures=$1
rounds=${2:-7}
runs=500000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
Scripts/install.sh "$work/prefix" >/dev/null
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig
# shellcheck disable=SC2046
cc -O2 Benchmarks/exit_cost.c $(pkg-config --cflags --libs nvmm) -o "$work/exit_cost"
for ((round = 0; round < rounds; round++)); do
    through=$(NVMM_RUNTIME_DIR=$work LD_LIBRARY_PATH=$work/prefix/lib "$work/exit_cost" "$runs")
    inside=$("$figures" --exit-cost "$runs")
    echo "$through $inside"
done | awk '
    { through[NR] = $1; inside[NR] = $2; ratio[NR] = $1 / $2 }
    function median(values, count,    i, j, t) {
        for (i = 1; i <= count; i++) for (j = i + 1; j <= count; j++)
            if (values[j] < values[i]) { t = values[i]; values[i] = values[j]; values[j] = t }
        return count % 2 ? values[(count + 1) / 2] : (values[count / 2] + values[count / 2 + 1]) / 2
    }
    END {
        printf "run and exit: %.0f ns through libnvmm.so, %.0f ns inside Swift, ratio %.2f (medians of %d pairs)\n",
            median(through, NR), median(inside, NR), median(ratio, NR), NR
    }'
