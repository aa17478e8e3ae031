# needs: tool cc
# What this machine's compiler makes of the headers, against the tables of Docs/nvmm-abi.md, line by line.
cc -std=c11 -Wall -Wextra -Werror "-I$ROOT/Sources/CNVMM/include" "-I$ROOT/Sources/CNVMM" \
    "$ROOT/Tests/CNVMM/print_layout.c" -o print_layout
./print_layout >program
awk -f "$ROOT/Tests/CNVMM/document_layout.awk" "$ROOT/Docs/nvmm-abi.md" >document
diff program document && echo "$(wc -l <program) lines agree"
# The comparison can fail: a document with one number changed differs.
sed 's/^| `evt_pending` | bit 3 |/| `evt_pending` | bit 4 |/' "$ROOT/Docs/nvmm-abi.md" |
    awk -f "$ROOT/Tests/CNVMM/document_layout.awk" | diff program - | grep '^>'
