# Reads Docs/nvmm-abi.md and prints its tables as print_layout.c prints the headers, a line for each row.
function clean(cell) { gsub(/`/, "", cell); gsub(/^ +| +$/, "", cell); return cell }

BEGIN { FS = "|" }

# ### `struct nvmm_io`: 40 bytes
/^### `/ {
    split($0, parts, "`")
    type = parts[2]
    bytes = parts[3]
    gsub(/[^0-9]/, "", bytes)
    print type " " bytes
    meaning = ""
    next
}

/^## / { meaning = "" }
!/^\|/ { if (meaning != "") meaning = ""; next }
/^\| member \| offset \| bytes \|/ { meaning = "member"; next }
/^\| type \| bytes \|/ { meaning = "pair"; next }
/^\| name \| value \|/ { meaning = "pair"; next }
/^\|---/ || meaning == "" { next }
meaning == "member" { print type "." clean($2) " " clean($3) " " clean($4) }
meaning == "pair" { print clean($2) " " clean($3) }
