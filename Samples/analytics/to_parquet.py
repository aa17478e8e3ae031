#!/usr/bin/env python3
"""Makes Parquet, partitioned by trace, of exports to CSV. Usage: to_parquet.py FOLDER FILE.csv..."""
import pathlib
import sys

import duckdb

# As Docs/export.md has them: 64 bits without a sign where a number may need them.
TYPES = {
    "number": "UBIGINT", "vcpu": "UINTEGER", "reason": "VARCHAR", "code": "UBIGINT", "port": "USMALLINT",
    "is_input": "BOOLEAN", "operand_bytes": "UTINYINT", "gpa": "UBIGINT", "access": "VARCHAR", "msr": "UINTEGER",
    "value": "UBIGINT", "cs_base": "UBIGINT", "rip": "UBIGINT", "rflags": "UBIGINT", "retired": "UBIGINT",
    "clock": "UBIGINT", "event": "VARCHAR", "vector": "UTINYINT", "committed": "VARCHAR", "cached": "VARCHAR",
    "entered": "BOOLEAN", "guest_ns": "UBIGINT", "vmm_ns": "UBIGINT",
}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, files = sys.argv[1], [pathlib.Path(name) for name in sys.argv[2:]]
    names = [file.stem for file in files]
    if len(set(names)) != len(names):
        sys.exit("two files of one name: the name is that of the trace")
    database = duckdb.connect()
    for file in files:
        database.execute(
            "COPY (SELECT *, ? AS trace FROM read_csv(?, header = true, columns = ?, nullstr = ''))"
            f" TO '{folder.replace(chr(39), chr(39) * 2)}'"
            " (FORMAT parquet, PARTITION_BY (trace), OVERWRITE_OR_IGNORE, FILENAME_PATTERN 'steps_{i}')",
            [file.stem, str(file), TYPES])


if __name__ == "__main__":
    main()
