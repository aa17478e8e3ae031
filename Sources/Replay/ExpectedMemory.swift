// Guest memory as the recording has it, against which a client's is compared.

internal import NVMM
internal import TraceFile

/// The objects of one machine: their content by the recording, and the pages to compare next time.
struct ExpectedMemory {
    private struct Entry {
        var object: MemoryObject
        var content: MemoryShadow
        var candidates: Set<Int> = []
    }

    private var entries: [UInt32: Entry] = [:]

    mutating func add(_ object: MemoryObject) {
        _ = object.takeClientWrites()  // begins to watch
        entries[object.ordinal] = Entry(object: object, content: MemoryShadow(byteCount: object.byteCount))
    }

    mutating func remove(_ ordinal: UInt32) { entries[ordinal] = nil }

    func object(_ ordinal: UInt32) -> MemoryObject? { entries[ordinal]?.object }

    /// Bytes that the recording has at a place from now on.
    ///
    /// - Returns: false where there is no such place.
    mutating func store(_ write: MemoryWrite) -> Bool {
        let (end, overflow) = write.offset.addingReportingOverflow(write.bytes.count)
        guard let byteCount = entries[write.object]?.object.byteCount, write.offset >= 0, !overflow, end <= byteCount
        else { return false }
        entries[write.object]?.content.store(write.bytes, at: write.offset)
        note(write.object, write.offset..<end)
        return true
    }

    /// Bytes that somebody wrote: to be compared.
    mutating func note(_ ordinal: UInt32, _ range: Range<Int>) {
        guard !range.isEmpty, range.lowerBound >= 0 else { return }
        entries[ordinal]?.candidates.formUnion(range.lowerBound / pageBytes...(range.upperBound - 1) / pageBytes)
    }

    /// What differs now, at most `limit` ranges of at most 16 bytes. Pages that are equal need no further look.
    mutating func differences(limit: Int) -> [(object: UInt32, offset: Int, expected: [UInt8], actual: [UInt8])] {
        var found: [(object: UInt32, offset: Int, expected: [UInt8], actual: [UInt8])] = []
        for ordinal in entries.keys.sorted() {
            guard var entry = entries.removeValue(forKey: ordinal) else { continue }
            for page in Self.candidates(of: entry).sorted() where page < entry.object.pageCount {
                let ranges = entry.content.differences(of: page, in: entry.object)
                if ranges.isEmpty {
                    entry.candidates.remove(page)
                } else {
                    entry.candidates.insert(page)
                }
                for range in ranges where found.count < limit {
                    found.append(Self.compare(range, entry.content, entry.object))
                }
            }
            entries[ordinal] = entry
        }
        return found
    }

    private static func candidates(of entry: Entry) -> Set<Int> {
        var pages = entry.candidates
        // Where nobody watches, all that anybody can have written.
        let written = entry.object.takeClientWrites()
        for range in written ?? entry.object.touchedPages { pages.formUnion(range) }
        if written == nil { pages.formUnion(entry.content.copiedPages) }
        return pages
    }

    private static func compare(
        _ range: Range<Int>, _ content: MemoryShadow, _ object: MemoryObject
    ) -> (object: UInt32, offset: Int, expected: [UInt8], actual: [UInt8]) {
        let expected = content.bytes(range)
        let actual = object.withBytes(range) { bytes in unsafe bytes.withUnsafeBytes { unsafe Array($0) } }
        let differing = expected.indices.filter { expected[$0] != actual[$0] }
        let first = differing.first ?? 0
        let end = min((differing.last ?? 0) + 1, first + 16)
        return (object.ordinal, range.lowerBound + first, Array(expected[first..<end]), Array(actual[first..<end]))
    }
}
