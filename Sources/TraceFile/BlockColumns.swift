// The columns of one steps frame, decompressed as they are asked for: Docs/trace-format.md, "Column directory".

import NVMM

/// Directory of a steps frame over its stored payload.
final class BlockColumns {
    private let payload: [UInt8]
    let offset: UInt64
    let summary: BlockSummary
    private(set) var entries: [ColumnEntry] = []
    private var dataRanges: [ColumnID: Int] = [:]
    private var starts: [Int] = []
    private let decompressor: Decompressor
    private var shared: [UInt8] = []
    private var sharedRanges: [ColumnID: Range<Int>]?
    /// Values of columns that may still be decoded, by the reader's limits.
    var budget: Int
    /// Bytes that may still be decompressed.
    private var byteBudget: Int

    /// - Parameter payload: its checksum has been verified.
    init(
        _ payload: [UInt8], offset: UInt64, decompressor: Decompressor, limits: ReaderLimits
    ) throws(TraceError) {
        self.payload = payload
        self.offset = offset
        self.decompressor = decompressor
        budget = limits.blockBytes / 8
        byteBudget = limits.frameBytes
        var reader = ByteReader(payload, place: TracePlace(frame: offset))
        let summaryBytes = try reader.count(max: reader.remaining)
        let summaryEnd = reader.position + summaryBytes
        var summaryReader = ByteReader(
            payload, range: reader.position..<summaryEnd, place: TracePlace(frame: offset))
        summary = try BlockSummary(from: &summaryReader)
        guard summary.stepCount <= limits.stepsPerBlock else {
            throw .limitExceeded(
                .stepsPerBlock, value: UInt64(summary.stepCount), maximum: UInt64(limits.stepsPerBlock),
                offset: offset)
        }
        _ = try reader.slice(summaryBytes)
        let count = try reader.count(max: min(reader.remaining / 4, 1024))
        for _ in 0..<count {
            guard let number = UInt16(exactly: try reader.varint()),
                let storage = ColumnStorage(rawValue: try reader.byte())
            else { throw reader.failure(.unknownValue) }
            let entry = ColumnEntry(
                id: ColumnID(rawValue: number), storage: storage, rawBytes: try reader.nonNegative(),
                storedBytes: try reader.count(max: payload.count))
            guard storage == .zstd || entry.rawBytes == entry.storedBytes else { throw reader.failure(.inconsistent) }
            guard dataRanges.updateValue(entries.count, forKey: entry.id) == nil else {
                throw reader.failure(.duplicateColumn)
            }
            entries.append(entry)
        }
        var start = reader.position
        for entry in entries {
            guard entry.storedBytes <= payload.count - start else { throw reader.failure(.shortOfBytes) }
            starts.append(start)
            start += entry.storedBytes
        }
        guard start == payload.count else { throw reader.failure(.leftover) }
    }

    private func decompressed(_ index: Int) throws(TraceError) -> [UInt8] {
        let entry = entries[index]
        let stored = payload[starts[index]..<starts[index] + entry.storedBytes]
        guard entry.rawBytes <= byteBudget else {
            throw .limitExceeded(
                .frameBytes, value: UInt64(entry.rawBytes), maximum: UInt64(byteBudget), offset: offset)
        }
        byteBudget -= entry.rawBytes
        switch entry.storage {
        case .raw: return Array(stored)
        case .zstd:
            return try decompressor.decompress(
                stored, byteCount: entry.rawBytes, place: TracePlace(frame: offset, column: entry.id))
        }
    }

    private func loadShared() throws(TraceError) -> [ColumnID: Range<Int>] {
        if let sharedRanges { return sharedRanges }
        var ranges: [ColumnID: Range<Int>] = [:]
        if let index = dataRanges[.shared] {
            shared = try decompressed(index)
            var reader = ByteReader(shared, place: TracePlace(frame: offset, column: .shared))
            while !reader.isAtEnd {
                guard let number = UInt16(exactly: try reader.varint()) else { throw reader.failure(.unknownValue) }
                let count = try reader.count(max: reader.remaining)
                let start = reader.position
                _ = try reader.slice(count)
                let id = ColumnID(rawValue: number)
                guard dataRanges[id] == nil, ranges.updateValue(start..<start + count, forKey: id) == nil else {
                    throw reader.failure(.duplicateColumn)
                }
            }
        }
        sharedRanges = ranges
        return ranges
    }

    func storedBytes(of id: ColumnID) -> UInt64 {
        dataRanges[id].map { UInt64(entries[$0].storedBytes) } ?? 0
    }

    /// A reader at the start of a column; nil where the frame has none of this number.
    func column(_ id: ColumnID) throws(TraceError) -> ByteReader? {
        let place = TracePlace(frame: offset, column: id)
        if let index = dataRanges[id] { return ByteReader(try decompressed(index), place: place) }
        if let range = try loadShared()[id] { return ByteReader(shared, range: range, place: place) }
        return nil
    }

    /// Columns that the frame has, beside `shared`.
    func ids() throws(TraceError) -> Set<ColumnID> {
        Set(dataRanges.keys).union(try loadShared().keys).subtracting([.shared])
    }

    /// All values of a value column; nil where it is left out, that is all zero.
    func values(_ id: ColumnID) throws(TraceError) -> [UInt64]? {
        guard var reader = try column(id) else { return nil }
        let result = try reader.values(budget: &budget)
        try reader.expectEnd()
        return result
    }

    /// As many values as `count` wants, zeros where the column is left out.
    func values(_ id: ColumnID, count: Int) throws(TraceError) -> [UInt64] {
        guard let result = try values(id) else {
            guard count <= budget else {
                throw .limitExceeded(
                    .blockBytes, value: UInt64(count) &* 8, maximum: UInt64(budget) &* 8, offset: offset)
            }
            budget -= count
            return [UInt64](repeating: 0, count: count)
        }
        guard result.count == count else {
            throw .malformed(.inconsistent, TracePlace(frame: offset, column: id, position: result.count))
        }
        return result
    }

    func stream(_ id: ColumnID) throws(TraceError) -> ValueStream {
        ValueStream(values: try values(id), place: TracePlace(frame: offset, column: id))
    }

    /// Template of each step, and the number of templates.
    func templates() throws(TraceError) -> (steps: [UInt32], count: Int) {
        guard summary.stepCount > 0 else { return ([], 0) }
        guard var reader = try column(.template) else {
            throw .malformed(.missingColumn, TracePlace(frame: offset, column: .template))
        }
        let count = try reader.count(max: summary.stepCount)
        guard count > 0 else { throw reader.failure(.inconsistent) }
        guard summary.stepCount <= budget else {
            throw .limitExceeded(
                .blockBytes, value: UInt64(summary.stepCount) &* 8, maximum: UInt64(budget) &* 8, offset: offset)
        }
        budget -= summary.stepCount
        let steps =
            count == 1
            ? [UInt32](repeating: 0, count: summary.stepCount)
            : try reader.indexPlanes(count: summary.stepCount, tableCount: count)
        try reader.expectEnd()
        return (steps, count)
    }

    /// The table of exits, `d` still relative where it is a RIP.
    func exits() throws(TraceError) -> [ExitWords] {
        guard var reader = try column(.exits) else {
            throw .malformed(.missingColumn, TracePlace(frame: offset, column: .exits))
        }
        var result: [ExitWords] = []
        for _ in 0..<(try reader.count(max: min(reader.remaining / 4, summary.stepCount))) {
            var exit = ExitWords()
            exit.number = try reader.byte()
            exit.a = try reader.varint()
            exit.c = try reader.varint()
            exit.d = exit.carriesNPC ? try reader.difference() : try reader.varint()
            guard exit.reason != nil else { throw reader.failure(.unknownValue) }
            result.append(exit)
        }
        try reader.expectEnd()
        return result
    }
}

/// Values of a column one after the other.
struct ValueStream {
    private let values: [UInt64]?
    private var position = 0
    private let place: TracePlace

    init(values: [UInt64]?, place: TracePlace) {
        self.values = values
        self.place = place
    }

    mutating func next() throws(TraceError) -> UInt64 {
        guard let values else { return 0 }
        guard position < values.count else {
            var place = place
            place.position = position
            throw .malformed(.shortOfBytes, place)
        }
        defer { position += 1 }
        return values[position]
    }

    func expectEnd() throws(TraceError) {
        if let values, position != values.count {
            var place = place
            place.position = position
            throw .malformed(.leftover, place)
        }
    }
}
