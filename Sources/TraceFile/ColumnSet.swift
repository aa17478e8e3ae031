// How the columns of a steps frame are packed: Docs/trace-format.md, "Column directory".

/// How a column's bytes are stored.
enum ColumnStorage: UInt8 {
    case raw = 0
    case zstd = 1
}

/// One entry of a column directory.
struct ColumnEntry: Equatable, Sendable {
    var id: ColumnID
    var storage: ColumnStorage
    var rawBytes: Int
    var storedBytes: Int
}

/// Collects columns, compresses each or many together, and lays them out.
struct ColumnSet {
    /// Columns below this share one zstd frame: alone, zstd's own headers and tables would outweigh them.
    static let sharedBelow = 512

    private let compressor: Compressor
    private var entries: [ColumnEntry] = []
    private var data: [[UInt8]] = []
    private var shared = ByteWriter()
    private var alone: [(ColumnID, [UInt8])] = []
    private var rawBytes = 0

    init(compressor: Compressor) { self.compressor = compressor }

    /// A column that can be decompressed by itself. Empty ones are left out.
    mutating func addAlone(_ id: ColumnID, _ bytes: [UInt8]) throws(TraceWriteError) {
        if bytes.isEmpty { return }
        rawBytes += bytes.count
        let packed = bytes.count < 24 ? bytes : try compressor.compress(bytes)
        let isSmaller = packed.count < bytes.count
        entries.append(
            ColumnEntry(
                id: id, storage: isSmaller ? .zstd : .raw, rawBytes: bytes.count,
                storedBytes: isSmaller ? packed.count : bytes.count))
        data.append(isSmaller ? packed : bytes)
    }

    mutating func addAlone(_ id: ColumnID, values: [UInt64]) throws(TraceWriteError) {
        guard values.contains(where: { $0 != 0 }) else { return }
        try addAlone(id, try column(values))
    }

    mutating func add(_ id: ColumnID, _ bytes: [UInt8]) {
        if bytes.isEmpty { return }
        if bytes.count < Self.sharedBelow {
            shared.varint(UInt64(id.rawValue))
            shared.blob(bytes)
        } else {
            alone.append((id, bytes))
        }
    }

    /// A value column; left out where every value is 0.
    mutating func add(_ id: ColumnID, values: [UInt64]) throws(TraceWriteError) {
        guard values.contains(where: { $0 != 0 }) else { return }
        add(id, try column(values))
    }

    /// A value column in the coding that is smaller in the end. Registers repeat more than they increment, so a
    /// dictionary is right where values recur often; in between, both are tried.
    private func column(_ values: [UInt64]) throws(TraceWriteError) -> [UInt8] {
        var dictionary = ByteWriter()
        let distinct = dictionary.dictionaryColumn(values)
        if distinct * 8 <= values.count { return dictionary.bytes }
        var differences = ByteWriter()
        differences.differenceColumn(values)
        if dictionary.bytes.isEmpty { return differences.bytes }
        if values.count < 64 {
            return differences.bytes.count < dictionary.bytes.count ? differences.bytes : dictionary.bytes
        }
        let sizes = (
            try compressor.compress(dictionary.bytes).count, try compressor.compress(differences.bytes).count
        )
        return sizes.1 < sizes.0 ? differences.bytes : dictionary.bytes
    }

    func storedBytes(of id: ColumnID) -> Int { entries.first { $0.id == id }?.storedBytes ?? 0 }

    mutating func payload(summary: BlockSummary) throws(TraceWriteError) -> (bytes: [UInt8], rawBytes: Int) {
        for (id, bytes) in alone { try addAlone(id, bytes) }
        alone = []
        try addAlone(.shared, shared.bytes)
        shared = ByteWriter()
        var writer = ByteWriter()
        var head = ByteWriter()
        summary.encode(into: &head)
        writer.blob(head.bytes)
        writer.varint(entries.count)
        for entry in entries {
            writer.varint(UInt64(entry.id.rawValue))
            writer.byte(entry.storage.rawValue)
            writer.varint(entry.rawBytes)
            writer.varint(entry.storedBytes)
        }
        rawBytes += writer.bytes.count
        for column in data { writer.bytes.append(contentsOf: column) }
        return (writer.bytes, rawBytes)
    }
}
