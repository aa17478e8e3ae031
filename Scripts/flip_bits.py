#!/usr/bin/env python3
"""Flips random bits of a trace, one at a time; `tracectl verify` must report each with status 1 or more.

Usage: flip_bits.py TRACECTL TRACE ROUNDS SEED
"""
import os
import random
import subprocess
import sys
import tempfile


def main():
    tracectl, trace, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    choose = random.Random(seed)
    size = os.path.getsize(trace)
    with open(trace, "rb") as source:
        data = source.read()
    missed = 0
    with tempfile.NamedTemporaryFile(suffix=".vmtrace") as copy:
        copy.write(data)
        copy.flush()
        for _ in range(rounds):
            place, bit = choose.randrange(size), choose.randrange(8)
            os.pwrite(copy.fileno(), bytes([data[place] ^ 1 << bit]), place)
            ended = subprocess.run([tracectl, "verify", copy.name], capture_output=True, check=False)
            if ended.returncode not in (1, 2):
                missed += 1
                print(f"byte {place} bit {bit}: status {ended.returncode}")
            os.pwrite(copy.fileno(), data[place : place + 1], place)
    print(f"bit flips: {rounds} of {size} bytes, {missed} not detected")
    return 1 if missed else 0


sys.exit(main())
