#!/usr/bin/env python3
"""Runs queries over a folder that to_parquet.py made. Usage: ask.py FOLDER QUERIES.sql"""
import sys

import duckdb


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    database = duckdb.connect()
    files = sys.argv[1].replace("'", "''") + "/*/*.parquet"
    database.execute(f"CREATE VIEW step AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)")
    for query in open(sys.argv[2], encoding="utf-8").read().split(";"):
        if query.strip():
            print(database.sql(query))


if __name__ == "__main__":
    main()
