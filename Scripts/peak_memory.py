#!/usr/bin/env python3
"""Reads every file of the given folders with tracectl, each in a process of its own, and prints the largest resident size.

usage: peak_memory.py TRACECTL LIMIT_MIB FOLDER...

Fails where a process took more than LIMIT_MIB or was ended by a signal. The fuzzer's own figure holds the sanitizer's
shadow memory too; this one is the reader's, with the runtime that it needs.
"""
import os
import sys


def main():
    program, limit, folders = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    count, peak, worst, signalled = 0, 0, "", []
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            # The shell becomes tracectl: what it prints is of no interest.
            script = 'exec "$0" dump --json "$1" >/dev/null 2>&1'
            child = os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", script, program, path])
            _, status, usage = os.wait4(child, 0)
            count += 1
            if os.WIFSIGNALED(status):
                signalled.append(path)
            if usage.ru_maxrss > peak:
                peak, worst = usage.ru_maxrss, path
    print(f"peak memory: {count} inputs, at most {peak / 1024:.1f} MiB of {limit} ({os.path.basename(worst)})")
    for path in signalled:
        print(f"ended by a signal: {path}")
    return 1 if signalled or peak > limit * 1024 or count == 0 else 0


sys.exit(main())
