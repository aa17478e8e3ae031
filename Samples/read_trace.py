#!/usr/bin/python3
"""Prints the exits of a .vmtrace file, written from Docs/trace-format.md alone.

    read_trace.py TRACE            one line for each step
    read_trace.py --stats TRACE    totals by reason as one JSON document
    read_trace.py --columns TRACE  stored bytes by column, for those who tune the format

Needs Debian's python3-zstandard and python3-xxhash. Reads finished traces, and unfinished ones up to their last frame.
"""

import argparse
import json
import struct
import sys

import xxhash
import zstandard

PREAMBLE = struct.Struct("<8sHHIQQQ")
FRAME = struct.Struct("<IHHIIQIIQQ")
MAGIC = bytes.fromhex("89564d540d0a1a0a")
FRAME_MAGIC = 0x46544D56
HEADER, STEPS, KEYFRAME, PAGES, INDEX, TRAILER = 1, 2, 3, 4, 5, 6
CRITICAL, EPOCH_END, COMPRESSED = 1, 2, 4
M64 = (1 << 64) - 1

REASONS = ["NONE", "MEMORY", "IO", "SHUTDOWN", "INT_READY", "NMI_READY", "HALTED", "TPR_CHANGED", "RDMSR", "WRMSR",
           "MONITOR", "MWAIT", "CPUID", "STOPPED", "INVALID"]
MEMORY, IO, RDMSR, WRMSR, MONITOR, CPUID = 1, 2, 8, 9, 10, 12

# Column numbers.
SHARED, TEMPLATE, T_EXIT, T_INPUT, T_PATTERN, T_SHAPE, T_COMMIT, T_RIP, EXITS, INPUTS, PATTERNS, SHAPES = range(12)
KEY, GPA, MSR_VALUE, RETIRED, CLOCK, STEP_INDEX = 12, 13, 14, 15, 16, 17
STATE, COMMITTED = 128, 256
WORDS, RIP, TSC = 126, 36, 60
PARTS = [(0, 20), (20, 38), (38, 44), (44, 50), (50, 61), (61, 62), (62, 126)]
GPRS = 2

# Flags of an input tuple.
HAS_EVENT, HAS_RETIRED = 8, 16
NO_VCPU = 0xFFFFFFFF


class Damaged(Exception):
    pass


class Reader:
    """Integers from bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        if self.at >= len(self.data):
            raise Damaged("short of bytes")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > M64:
                    raise Damaged("overlong varint")
                return value
            shift += 7

    def difference(self):
        value = self.varint()
        return (value >> 1) ^ (M64 if value & 1 else 0)

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Damaged("short of bytes")
        self.at += count
        return self.data[self.at - count:self.at]

    def string(self):
        return self.take(self.varint()).decode()

    @property
    def left(self):
        return len(self.data) - self.at


def index_planes(reader, count, table):
    planes = max(1, ((table - 1).bit_length() + 7) // 8)
    data = reader.take(planes * count)
    return [sum(data[plane * count + i] << 8 * plane for plane in range(planes)) for i in range(count)]


def value_column(data):
    """Values of a value column; see "Value columns"."""
    reader = Reader(data)
    count = reader.varint()
    if count == 0:
        return []
    coding, values, last = reader.byte(), [], 0
    if coding == 2:
        return [reader.varint() for _ in range(count)]
    if coding == 1:
        for _ in range(count):
            last = (last + reader.difference()) & M64
            values.append(last)
        return values
    if coding != 0:
        raise Damaged("unknown value coding")
    table = []
    for _ in range(reader.varint()):
        last = (last + reader.difference()) & M64
        table.append(last)
    if len(table) == 1:
        return table * count
    return [table[i] for i in index_planes(reader, count, len(table))]


class Stream:
    """Values one after the other; zeros where the column is left out."""

    def __init__(self, values):
        self.values, self.at = values, 0

    def next(self):
        if self.values is None:
            return 0
        self.at += 1
        return self.values[self.at - 1]


class Block:
    """One steps frame."""

    def __init__(self, payload, vcpu, first_step):
        self.vcpu, self.first_step = vcpu, first_step
        reader = Reader(payload)
        self.read_summary(Reader(reader.take(reader.varint())))
        entries = []
        for _ in range(reader.varint()):
            entries.append((reader.varint(), reader.byte(), reader.varint(), reader.varint()))
        self.columns, self.stored = {}, {}
        for number, storage, raw, stored in entries:
            data = reader.take(stored)
            self.stored[number] = stored
            self.columns[number] = zstandard.ZstdDecompressor().decompress(data) if storage else data
            if len(self.columns[number]) != raw:
                raise Damaged("column of another length than promised")
        if reader.left:
            raise Damaged("bytes left over")
        if SHARED in self.columns:
            shared = Reader(self.columns.pop(SHARED))
            while shared.left:
                number = shared.varint()
                self.columns[number] = shared.take(shared.varint())

    def read_summary(self, reader):
        self.step_count, self.last_step, self.first_clock = reader.varint(), reader.varint(), reader.varint()
        self.retired, self.injected, self.early = reader.varint(), reader.varint(), reader.varint()
        self.calls = [reader.varint() for _ in range(8)]
        self.writes, self.write_bytes, self.stored_write_bytes = reader.varint(), reader.varint(), reader.varint()
        self.machine_events, self.lost = reader.varint(), reader.varint()
        self.exits = {}
        for _ in range(reader.varint()):
            number = reader.byte()
            self.exits[number] = (reader.varint(), reader.varint(), reader.varint())

    def values(self, number):
        return value_column(self.columns[number]) if number in self.columns else None

    def stream(self, number):
        return Stream(self.values(number))

    def padded(self, number, count):
        return self.values(number) or [0] * count

    def exit_table(self):
        reader, table = Reader(self.columns[EXITS]), []
        for _ in range(reader.varint()):
            number, a, c = reader.byte(), reader.varint(), reader.varint()
            has_npc = number == IO or RDMSR <= number <= CPUID
            table.append((number, a, c, reader.difference() if has_npc else reader.varint(), has_npc))
        return table

    def input_table(self):
        reader, table = Reader(self.columns[INPUTS]), []
        for _ in range(reader.varint()):
            flags, commit, cached, coverage = (reader.varint() for _ in range(4))
            event = tuple(reader.varint() for _ in range(3)) if flags & HAS_EVENT else None
            table.append((flags, commit, cached, coverage, event))
        return table

    def shape_table(self):
        table = [0]
        if SHAPES in self.columns:
            reader = Reader(self.columns[SHAPES])
            for _ in range(reader.varint()):
                low = reader.varint()
                table.append(low | reader.varint() << 64)
        return table

    def advances(self):
        """For each pattern, how often the clock is advanced in it."""
        table = [0]
        if PATTERNS in self.columns:
            reader = Reader(self.columns[PATTERNS])
            reader.varint()
            for _ in range(reader.varint()):
                items, count = Reader(reader.take(reader.varint())), 0
                while items.left:
                    op = items.varint()
                    if op & 7 == 0:
                        if op & 64:
                            items.varint()
                        items.varint()
                    count += op & 7 == 2
                table.append(count)
        return table

    def steps(self):
        """Yields (number of the step, reason, payload, words of the state, retired, clock, event)."""
        if not self.step_count:
            return
        reader = Reader(self.columns[TEMPLATE])
        count = reader.varint()
        of_step = index_planes(reader, self.step_count, count) if count > 1 else [0] * self.step_count
        exits, inputs, shapes, advances = self.exit_table(), self.input_table(), self.shape_table(), self.advances()
        parts = [self.padded(number, count) for number in (T_EXIT, T_INPUT, T_PATTERN, T_SHAPE, T_COMMIT, T_RIP)]
        templates = list(zip(*parts))
        known = list(self.padded(KEY, WORDS))
        state = [self.stream(STATE + word) for word in range(WORDS)]
        committed = [self.stream(COMMITTED + word) for word in range(WORDS)]
        gpas, msr_values, retired_counts = self.stream(GPA), self.stream(MSR_VALUE), self.stream(RETIRED)
        clocks, indices, advance = self.stream(CLOCK), self.stream(STEP_INDEX), self.stream(28)
        step, clock, npc = self.first_step - 1, None, None
        for number in of_step:
            exit_, input_, pattern, shape, commit_shape, rip = templates[number]
            flags, commit, _, coverage, event = inputs[input_]
            step += 1 + indices.next()
            retired = retired_counts.next() if flags & HAS_RETIRED else 0
            ticks = sum(advance.next() for _ in range(advances[pattern]))
            if clock is None:
                clock = self.first_clock - retired - ticks
            passed = (retired + ticks + clocks.next()) & M64
            clock = (clock + passed) & M64
            # Prediction of states.
            known[TSC] = (known[TSC] + passed - retired) & M64
            if commit:
                if npc is not None and commit & GPRS:
                    known[RIP] = npc
                for word in bits(shapes[commit_shape]):
                    known[word] = committed[word].next()
            known[TSC] = (known[TSC] + retired) & M64
            for word in bits(shapes[shape]):
                known[word] = state[word].next()
            if coverage & GPRS:
                known[RIP] = rip
            reason, a, c, d, has_npc = exits[exit_]
            npc = (d + known[RIP]) & M64 if has_npc else None
            payload = {}
            if reason == IO:
                payload = {"port": a & 0xFFFF, "in": a >> 40 & 1, "bytes": a >> 24 & 0xFF}
            elif reason == MEMORY:
                payload = {"gpa": gpas.next(), "access": a}
            elif reason == RDMSR:
                payload = {"msr": a}
            elif reason == WRMSR:
                payload = {"msr": a, "value": msr_values.next()}
            yield step, REASONS[reason], payload, known, retired if flags & HAS_RETIRED else None, clock, event


def bits(mask):
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def frames(data):
    """Yields (header fields, payload) of all good frames."""
    if data[:8] != MAGIC:
        raise Damaged("not a trace")
    magic, version, size, zero, required, quirks, check = PREAMBLE.unpack_from(data)
    if check != xxhash.xxh3_64_intdigest(data[:32]):
        raise Damaged("preamble")
    if required:
        raise Damaged(f"needs features {required:#x} that this reader has not")
    at = size
    while at + FRAME.size <= len(data):
        fields = FRAME.unpack_from(data, at)
        magic, kind, flags, stored, raw, first_step, vcpu, epoch, check, header_check = fields
        if magic != FRAME_MAGIC or header_check != xxhash.xxh3_64_intdigest(data[at:at + 40]):
            raise Damaged(f"frame header at {at}")
        payload = data[at + FRAME.size:at + FRAME.size + stored]
        if len(payload) < stored:
            print(f"{sys.argv[0]}: the last frame is cut off", file=sys.stderr)
            return
        if check != xxhash.xxh3_64_intdigest(payload):
            raise Damaged(f"payload of the frame at {at}")
        if flags & COMPRESSED:
            payload = zstandard.ZstdDecompressor().decompress(payload)
        yield kind, flags, first_step, vcpu, epoch, payload, FRAME.size + stored
        at += FRAME.size + stored


def read_header(payload):
    reader = Reader(payload)
    for _ in range(reader.varint()):
        reader.string()
    return {"tool": reader.string(), "backend": reader.string(), "processor": reader.string(),
            "level": ["exits", "replay", "client"][reader.byte()], "time": reader.byte() & 1}


def main():
    parser = argparse.ArgumentParser(description="Prints the exits of a .vmtrace file.")
    parser.add_argument("--stats", action="store_true", help="print counts by reason as JSON")
    parser.add_argument("--columns", action="store_true", help="print stored bytes by column as JSON")
    parser.add_argument("trace")
    arguments = parser.parse_args()
    with open(arguments.trace, "rb") as file:
        data = file.read()

    exits, columns, kinds = {}, {}, {}
    totals = {"steps": 0, "instructions": 0, "injections": 0, "memory_writes": 0, "keyframes": 0}
    epoch_blocks, last_epoch, complete, header = [], None, False, {}

    def print_epoch():
        # Blocks of one epoch interleave: their steps are merged by number.
        for step, reason, payload, words, retired, clock, event in merged(epoch_blocks):
            details = " ".join(f"{key}={value:#x}" for key, value in payload.items())
            print(f"{step[0]} vcpu={step[1]} rip={words:#x} {reason} {details}".rstrip())
        epoch_blocks.clear()

    def merged(blocks):
        def tagged(block):
            for step, reason, payload, words, retired, clock, event in block.steps():
                yield (step, block.vcpu), reason, payload, words[RIP], retired, clock, event
        import heapq
        return heapq.merge(*(tagged(block) for block in blocks), key=lambda item: item[0][0])

    for kind, flags, first_step, vcpu, epoch, payload, size in frames(data):
        kinds[kind] = kinds.get(kind, 0) + size
        if kind == HEADER:
            header = read_header(payload)
        elif kind == STEPS:
            block = Block(payload, vcpu, first_step)
            totals["steps"] += block.step_count
            totals["instructions"] += block.retired
            totals["injections"] += block.injected
            totals["memory_writes"] += block.writes
            if arguments.columns:
                for number, stored in block.stored.items():
                    columns[number] = columns.get(number, 0) + stored
            elif arguments.stats:
                # From the steps themselves, not from the block's summary.
                for _, reason, *_ in block.steps():
                    exits[reason] = exits.get(reason, 0) + 1
            else:
                if epoch != last_epoch:
                    print_epoch()
                last_epoch = epoch
                epoch_blocks.append(block)
        elif kind == KEYFRAME:
            totals["keyframes"] += 1
        elif kind == TRAILER:
            complete = True
        elif kind not in (PAGES, INDEX) and flags & CRITICAL:
            raise Damaged(f"unknown critical frame of type {kind}")
    if arguments.columns:
        json.dump({"frames": kinds, "columns": dict(sorted(columns.items(), key=lambda item: -item[1])),
                   "steps": totals["steps"]}, sys.stdout, indent=1)
        print()
    elif arguments.stats:
        json.dump({"complete": complete, **header, **totals, "exits": dict(sorted(exits.items()))}, sys.stdout)
        print()
    else:
        print_epoch()


if __name__ == "__main__":
    try:
        main()
    except Damaged as problem:
        sys.exit(f"{sys.argv[0]}: {problem}")
    except BrokenPipeError:
        sys.exit(1)
