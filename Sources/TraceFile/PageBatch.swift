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
        var writer = ByteWriter()
        writer.varint(firstPage)
        writer.varint(names.count)
        for name in names {
            writer.fixed(name.high)
            writer.fixed(name.low)
        }
        writer.bytes.append(contentsOf: content)
        return writer.bytes
    }

    init(firstPage: UInt64) { self.firstPage = firstPage }

    init(_ bytes: [UInt8], place: TracePlace) throws(TraceError) {
        var reader = ByteReader(bytes, place: place)
        firstPage = try reader.varint()
        let count = try reader.count(max: Self.pagesMax)
        guard count > 0, firstPage <= UInt64(UInt32.max) else { throw reader.failure(.inconsistent) }
        for _ in 0..<count {
            names.append(PageHash(high: try reader.fixed(UInt64.self), low: try reader.fixed(UInt64.self)))
        }
        content = Array(try reader.slice(count * pageBytes))
        try reader.expectEnd()
    }
}
