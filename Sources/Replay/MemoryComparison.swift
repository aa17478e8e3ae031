// Ranges of guest memory that differ.

internal import NVMM
internal import TraceFile

/// Collects differing ranges, up to ``Divergence/memoryRangesMax``.
struct MemoryComparison {
    private(set) var differences: [MemoryDifference] = []
    private let gpaRanges: [GPARange]

    init(gpaRanges: [GPARange]) { self.gpaRanges = gpaRanges }

    var isFull: Bool { differences.count >= Divergence.memoryRangesMax }

    /// Compares bytes of one object that start at `offset`. Equal bytes shorter than a word do not split a range.
    mutating func compare(object: UInt32, offset: Int, expected: [UInt8], actual: [UInt8]) {
        var index = 0
        let count = min(expected.count, actual.count)
        while index < count, !isFull {
            guard expected[index] != actual[index] else {
                index += 1
                continue
            }
            let start = index
            var end = index + 1
            while index < count, index - end < 8 {
                if expected[index] != actual[index] { end = index + 1 }
                index += 1
            }
            differences.append(
                MemoryDifference(
                    object: object, offset: offset + start, byteCount: end - start, gpa: gpa(object, offset + start),
                    expected: Array(expected[start..<end].prefix(16)), actual: Array(actual[start..<end].prefix(16))))
            index = end
        }
    }

    /// Compares `pages` of an object that two machines have.
    mutating func compare(
        object ordinal: UInt32, pages: some Sequence<Int>, expected: MemoryObject, actual: MemoryObject
    ) {
        for page in pages where !isFull && page >= 0 && page < min(expected.pageCount, actual.pageCount) {
            let range = page * pageBytes..<(page + 1) * pageBytes
            let isEqual = expected.withBytes(range) { left in
                actual.withBytes(range) { right in
                    for index in stride(from: 0, to: pageBytes, by: 8)
                    where left.word(at: index) != right.word(at: index) {
                        return false
                    }
                    return true
                }
            }
            guard !isEqual else { continue }
            compare(
                object: ordinal, offset: range.lowerBound, expected: expected.withBytes(range) { $0.array },
                actual: actual.withBytes(range) { $0.array })
        }
    }

    private func gpa(_ object: UInt32, _ offset: Int) -> UInt64? {
        for range in gpaRanges where range.object == object {
            let distance = offset &- range.offset
            if distance >= 0 && distance < range.byteCount { return range.gpa.rawValue &+ UInt64(distance) }
        }
        return nil
    }
}

extension RawSpan {
    /// The bytes, copied.
    var array: [UInt8] { (0..<byteCount).map { byte(at: $0) } }
}
