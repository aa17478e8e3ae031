// Page frames: pages of guest memory, each stored once: Docs/trace-format.md, "Page frame".

import NVMM

/// Pages that go into one frame together.
struct PageBatch {
    static let pagesMax = 64

    var firstPage: UInt64
    var names: [PageHash] = []
    var content: [UInt8] = []

    var isFull: Bool { names.count == Self.pagesMax }

    /// First ordinal, count, names, then the contents.
    func encoded() -> [UInt8] {
        encodedNames() + content
    }

    /// The same without the contents, as a frame of shared pages has it.
    func encodedNames() -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(firstPage)
        writer.varint(names.count)
        for name in names {
            writer.fixed(name.high)
            writer.fixed(name.low)
        }
        return writer.bytes
    }

    init(firstPage: UInt64) { self.firstPage = firstPage }

    /// As many pages as the entry tells of; what they are does not matter to an index.
    init(counting entry: IndexEntry) {
        firstPage = entry.firstPage
        names = Array(repeating: .zeroPage, count: entry.pageCount)
    }

    init(_ bytes: [UInt8], place: TracePlace) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        (firstPage, names) = try Self.names(&reader)
        content = Array(try reader.slice(names.count * pageBytes))
        try reader.expectEnd()
    }

    /// From a frame of shared pages; ``content`` stays empty.
    init(namesIn bytes: [UInt8], place: TracePlace) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        (firstPage, names) = try Self.names(&reader)
        try reader.expectEnd()
    }

    private static func names(_ reader: inout ByteReader) throws(TraceError) -> (UInt64, [PageHash]) {
        let firstPage = try reader.varint()
        let count = try reader.count(max: Self.pagesMax)
        guard count > 0, firstPage <= UInt64(UInt32.max) else { throw reader.failure(.inconsistent) }
        var names: [PageHash] = []
        for _ in 0..<count {
            names.append(PageHash(high: try reader.fixed(UInt64.self), low: try reader.fixed(UInt64.self)))
        }
        return (firstPage, names)
    }
}
