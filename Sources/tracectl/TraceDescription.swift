// What `info` says of a trace: its header, its totals, its keyframes.

import NVMM
import TraceFile

struct TraceDescription: Encodable {
    var tool: String
    var backend: String
    var processorModel: String
    var level: String
    var isComplete: Bool
    var recordsTime: Bool
    var hidden: [String]
    var parameters: [String: String]
    var stepCount: UInt64
    var instructionCount: UInt64
    var exits: [Exit]
    var injectedEvents: UInt64
    var memoryWrites: UInt64
    var memoryWriteBytes: UInt64
    var lostEvents: UInt64
    var keyframes: Int
    var pages: UInt64
    var bytes: Bytes
    /// Of the file, less page frames and I/O payload; nil without exits.
    var bytesPerExit: Double?

    struct Exit: Encodable {
        var reason: String
        var count: UInt64
    }

    /// Of the file, by what they hold.
    struct Bytes: Encodable {
        var header, steps, ioPayload, keyframes, pages, index, total: UInt64
    }

    init(_ reader: TraceReader) {
        let (header, totals) = (reader.header, reader.totals)
        tool = header.tool
        backend = header.backendName
        processorModel = header.processorModel
        level = "\(header.level)"
        isComplete = reader.isComplete
        recordsTime = header.recordsTime
        hidden = header.hidden
        parameters = Dictionary(header.parameters.map { ($0.key, $0.value) }) { first, _ in first }
        stepCount = totals.stepCount
        instructionCount = totals.instructionCount
        exits = totals.exits.map { Exit(reason: $0.name, count: $0.count) }
        injectedEvents = totals.injectedEvents
        memoryWrites = totals.memoryWrites
        memoryWriteBytes = totals.memoryWriteBytes
        lostEvents = totals.lostEvents
        keyframes = reader.keyframes.count
        pages = totals.pageCount
        bytes = Bytes(
            header: totals.bytes.header, steps: totals.bytes.steps, ioPayload: totals.bytes.ioPayload,
            keyframes: totals.bytes.keyframes, pages: totals.bytes.pages, index: totals.bytes.index,
            total: totals.bytes.total)
        bytesPerExit = totals.bytesPerExit
    }

    var text: String {
        var lines = [
            "recorded by \(tool) on \(backend), processor \(processorModel), level \(level)",
            isComplete ? "complete" : "not closed: tracectl repair recovers what its writer had in flight",
            "exits: \(grouped(stepCount)); instructions: \(grouped(instructionCount))",
        ]
        for exit in exits.sorted(by: { ($1.count, $0.reason) < ($0.count, $1.reason) }) {
            lines.append("  \(exit.reason) \(grouped(exit.count))")
        }
        lines.append(
            "events injected: \(grouped(injectedEvents)); memory written by the VMM:"
                + " \(counted(memoryWrites, "write")), \(sized(memoryWriteBytes))")
        if lostEvents > 0 { lines.append("events lost: \(grouped(lostEvents))") }
        lines.append("keyframes: \(grouped(keyframes)), pages stored: \(grouped(pages))")
        let rest = bytes.total - bytes.pages - bytes.ioPayload
        lines.append(
            "size: \(sized(bytes.total)) = pages \(sized(bytes.pages)) + I/O payload \(sized(bytes.ioPayload))"
                + " + exits and index \(sized(rest))")
        if let bytesPerExit {
            lines.append("bytes per exit: \(decimals(bytesPerExit)) (without pages and I/O payload)")
        }
        for phrase in hidden { lines.append("hidden from the VMM: \(phrase)") }
        for (key, value) in parameters.sorted(by: { $0.key < $1.key }) { lines.append("parameter \(key): \(value)") }
        return lines.joined(separator: "\n") + "\n"
    }
}
