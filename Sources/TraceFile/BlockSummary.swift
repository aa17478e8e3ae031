// What a steps frame says about itself before its columns, repeated in the index: totals need no decoding.

import NVMM

/// Counts of one steps frame: Docs/trace-format.md, "Summary".
struct BlockSummary: Equatable, Sendable {
    var stepCount = 0
    /// Machine-wide number of the last step; meaningful where there are steps.
    var lastStep: UInt64 = 0
    /// Machine's clock after the first step.
    var firstClock: UInt64 = 0
    /// Instructions, where they were counted.
    var retired: UInt64 = 0
    /// Events that were injected with a step.
    var injectedEvents: UInt64 = 0
    var earlyReturns: UInt64 = 0
    /// By kind, then by cost.
    var calls = [UInt64](repeating: 0, count: 8)
    var memoryWrites: UInt64 = 0
    var memoryWriteBytes: UInt64 = 0
    /// Bytes that the content of the writes takes in the file.
    var storedWriteBytes: UInt64 = 0
    var machineEvents: UInt64 = 0
    /// Events that were lost before they could be recorded.
    var lostEvents: UInt64 = 0
    /// By number of the reason, ascending, none twice.
    var exits: [ExitTotal] = []

    struct ExitTotal: Equatable, Sendable {
        var number: UInt8
        var count: UInt64
        /// Host time in the guest, nanoseconds; 0 where it is not recorded.
        var timeSum: UInt64 = 0
        var timeMax: UInt64 = 0
    }

    mutating func count(exit number: UInt8, time: UInt64) {
        if let index = exits.firstIndex(where: { $0.number >= number }) {
            if exits[index].number != number { exits.insert(ExitTotal(number: number, count: 0), at: index) }
            exits[index].count &+= 1
            exits[index].timeSum &+= time
            exits[index].timeMax = max(exits[index].timeMax, time)
        } else {
            exits.append(ExitTotal(number: number, count: 1, timeSum: time, timeMax: time))
        }
    }

    /// Adds the counts of another frame.
    mutating func add(_ other: BlockSummary) {
        stepCount += other.stepCount
        lastStep = max(lastStep, other.lastStep)
        retired &+= other.retired
        injectedEvents &+= other.injectedEvents
        earlyReturns &+= other.earlyReturns
        for index in calls.indices { calls[index] &+= other.calls[index] }
        memoryWrites &+= other.memoryWrites
        memoryWriteBytes &+= other.memoryWriteBytes
        storedWriteBytes &+= other.storedWriteBytes
        machineEvents &+= other.machineEvents
        lostEvents &+= other.lostEvents
        for total in other.exits {
            if let index = exits.firstIndex(where: { $0.number >= total.number }) {
                if exits[index].number == total.number {
                    exits[index].count &+= total.count
                    exits[index].timeSum &+= total.timeSum
                    exits[index].timeMax = max(exits[index].timeMax, total.timeMax)
                } else {
                    exits.insert(total, at: index)
                }
            } else {
                exits.append(total)
            }
        }
    }

    func encode(into writer: inout ByteWriter) {
        writer.varint(stepCount)
        writer.varint(lastStep)
        writer.varint(firstClock)
        writer.varint(retired)
        writer.varint(injectedEvents)
        writer.varint(earlyReturns)
        for count in calls { writer.varint(count) }
        writer.varint(memoryWrites)
        writer.varint(memoryWriteBytes)
        writer.varint(storedWriteBytes)
        writer.varint(machineEvents)
        writer.varint(lostEvents)
        writer.varint(exits.count)
        for exit in exits {
            writer.byte(exit.number)
            writer.varint(exit.count)
            writer.varint(exit.timeSum)
            writer.varint(exit.timeMax)
        }
    }

    init() {}

    init(from reader: inout ByteReader) throws(TraceError) {
        // Bounded so that the sums over all frames stay within 64 bits.
        stepCount = try reader.count(max: Int(UInt32.max))
        lastStep = try reader.varint()
        firstClock = try reader.varint()
        retired = try reader.varint()
        injectedEvents = try reader.varint()
        earlyReturns = try reader.varint()
        for index in 0..<8 { calls[index] = try reader.varint() }
        memoryWrites = try reader.varint()
        memoryWriteBytes = try reader.varint()
        storedWriteBytes = try reader.varint()
        machineEvents = try reader.varint()
        lostEvents = try reader.varint()
        for _ in 0..<(try reader.count(max: Int(ExitWords.count))) {
            let number = try reader.byte()
            guard number < ExitWords.count, number > exits.last?.number ?? 0 || exits.isEmpty else {
                throw reader.failure(.unknownValue)
            }
            exits.append(
                ExitTotal(
                    number: number, count: try reader.varint(), timeSum: try reader.varint(),
                    timeMax: try reader.varint()))
        }
    }
}
