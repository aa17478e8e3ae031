// Records of a journal, taken apart again: by the encoder, and by repair from a journal that a killed writer left.

import NVMM

/// One record of a journal.
enum JournalRecord {
    case step(StepRow)
    case call(CallRecord)
    case memoryWrite(object: UInt32, offset: Int, bytes: Range<Int>, isRawStore: Bool)
    case guestWrite(object: UInt32, offset: Int, bytes: Range<Int>)
    case advance(ticks: UInt64)
    case machine(Range<Int>)
    case loss(Range<Int>)
}

/// A step as logged: words that differ from the state of the VCPU after its step before.
struct StepRow {
    var vcpu: UInt32 = 0
    var flags: UInt64 = 0
    var commit = StateFlags()
    var cached = StateFlags()
    var coverage = StateFlags()
    var clock: UInt64 = 0
    var exit = ExitWords()
    var exitRFLAGS: UInt64 = 0
    var exitCR8: UInt64 = 0
    var exitInterrupt: UInt64 = 0
    var budget: UInt64 = 0
    var eventWord: UInt64 = 0
    var eventError: UInt64 = 0
    var retired: UInt64 = 0
    var guestTime: UInt64 = 0
    var vmmTime: UInt64 = 0
    var commitMask = WordMask()
    /// Byte position of the first value in the journal.
    var commitValues = 0
    var stateMask = WordMask()
    var stateValues = 0
}

/// Goes through the records of one journal. The bytes may come from a file that anybody wrote.
struct JournalReader {
    let bytes: [UInt8]
    /// Where the next record begins: after a failure, the end of what is good.
    private(set) var position = 0
    /// Checksums are skipped for the writer's own memory.
    let isTrusted: Bool

    init(_ bytes: [UInt8], from position: Int = 0, isTrusted: Bool) {
        self.bytes = bytes
        self.position = position
        self.isTrusted = isTrusted
    }

    private var damaged: TraceError { .damagedJournal(number: 0, position: position) }

    func word(at position: Int) -> UInt64 {
        // SAFETY: each caller has held `position + 8` against the end of the bytes.
        unsafe bytes.span.bytes.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self)
    }

    /// - Throws: ``TraceError/damagedJournal(number:position:)``; `position` then stands before the bad record.
    mutating func next() throws(TraceError) -> JournalRecord? {
        guard position < bytes.count else { return nil }
        guard bytes.count - position >= 16 else { throw damaged }
        let head = word(at: position)
        let length = Int(head & 0xFFFF_FFFF)
        guard length >= 16, length % 8 == 0, length <= bytes.count - position else { throw damaged }
        if !isTrusted {
            let sum = checksum(bytes, position + 8..<position + length)
            guard UInt32(truncatingIfNeeded: sum) == UInt32(truncatingIfNeeded: head >> 32) else { throw damaged }
        }
        let end = position + length
        let kind = word(at: position + 8)
        guard let type = RecordType(rawValue: UInt8(truncatingIfNeeded: kind)) else { throw damaged }
        let record: JournalRecord
        switch type {
        case .step:
            record = .step(try step(kind: kind, end: end))
        case .call:
            guard
                length == 24, let callKind = CallRecord.Kind(rawValue: UInt8(truncatingIfNeeded: kind >> 8)),
                let cost = CallCost(rawValue: UInt8(truncatingIfNeeded: kind >> 16))
            else { throw damaged }
            record = .call(
                CallRecord(
                    vcpu: UInt32(truncatingIfNeeded: kind >> 32), kind: callKind,
                    flags: StateFlags(rawValue: word(at: position + 16)), cost: cost))
        case .memoryWrite:
            let range = try blob(end: end)
            guard let offset = Int(exactly: word(at: position + 16)) else { throw damaged }
            record = .memoryWrite(
                object: UInt32(truncatingIfNeeded: kind >> 32), offset: offset, bytes: range,
                isRawStore: kind >> 8 & 1 != 0)
        case .guestWrite:
            let range = try blob(end: end)
            guard let offset = Int(exactly: word(at: position + 16)) else { throw damaged }
            record = .guestWrite(object: UInt32(truncatingIfNeeded: kind >> 32), offset: offset, bytes: range)
        case .advance:
            guard length == 24 else { throw damaged }
            record = .advance(ticks: word(at: position + 16))
        case .machine: record = .machine(try blob(end: end))
        case .loss: record = .loss(try blob(end: end))
        }
        position = end
        return record
    }

    private func blob(end: Int) throws(TraceError) -> Range<Int> {
        guard end - position >= 32 else { throw damaged }
        let count = word(at: position + 24)
        let room = end - position - 32
        guard count <= UInt64(room), (Int(count) + 7) / 8 * 8 == room else { throw damaged }
        return position + 32..<position + 32 + Int(count)
    }

    private func step(kind: UInt64, end: Int) throws(TraceError) -> StepRow {
        var row = StepRow()
        // Passed on and not captured: a captured variable is tracked at each of these reads.
        var place = position + 16
        row.vcpu = UInt32(truncatingIfNeeded: kind >> 32)
        row.flags = kind >> 16 & 0xFFFF
        row.exit.number = UInt8(truncatingIfNeeded: kind >> 8)
        row.commit = StateFlags(rawValue: try take(&place, end))
        row.cached = StateFlags(rawValue: try take(&place, end))
        row.coverage = StateFlags(rawValue: try take(&place, end))
        row.clock = try take(&place, end)
        row.exit.a = try take(&place, end)
        row.exit.b = try take(&place, end)
        row.exit.c = try take(&place, end)
        row.exit.d = try take(&place, end)
        row.exitRFLAGS = try take(&place, end)
        row.exitCR8 = try take(&place, end)
        row.exitInterrupt = try take(&place, end)
        if row.flags & RowFlags.budget != 0 { row.budget = try take(&place, end) }
        if row.flags & RowFlags.event != 0 {
            row.eventWord = try take(&place, end)
            row.eventError = try take(&place, end)
        }
        if row.flags & RowFlags.retired != 0 { row.retired = try take(&place, end) }
        if row.flags & RowFlags.time != 0 {
            row.guestTime = try take(&place, end)
            row.vmmTime = try take(&place, end)
        }
        if !row.commit.isEmpty {
            row.commitMask = WordMask(low: try take(&place, end), high: try take(&place, end))
            guard row.commitMask.isSubset(of: WordMask(parts: row.commit)) else { throw damaged }
            row.commitValues = place
            place += 8 * (row.commitMask.low.nonzeroBitCount + row.commitMask.high.nonzeroBitCount)
            guard place <= end else { throw damaged }
        }
        row.stateMask = WordMask(low: try take(&place, end), high: try take(&place, end))
        guard row.stateMask.isSubset(of: WordMask(parts: row.coverage)) else { throw damaged }
        row.stateValues = place
        place += 8 * (row.stateMask.low.nonzeroBitCount + row.stateMask.high.nonzeroBitCount)
        guard place == end, row.exit.reason != nil else { throw damaged }
        return row
    }

    private func take(_ place: inout Int, _ end: Int) throws(TraceError) -> UInt64 {
        guard place + 8 <= end else { throw damaged }
        place += 8
        return word(at: place - 8)
    }
}
