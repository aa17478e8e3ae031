// A set of page numbers of one memory object, one bit a page.

/// Pages 0..<`pageCount`. Insertion does not allocate.
struct PageSet {
    private var words: [UInt64]
    private(set) var isEmpty = true

    init(pageCount: Int) { words = Array(repeating: 0, count: (pageCount + 63) / 64) }

    func contains(_ page: Int) -> Bool { words[page >> 6] & 1 << UInt64(page & 63) != 0 }

    mutating func insert(_ page: Int) {
        words[page >> 6] |= 1 << UInt64(page & 63)
        isEmpty = false
    }

    mutating func removeAll() {
        guard !isEmpty else { return }
        for index in words.indices { words[index] = 0 }
        isEmpty = true
    }

    /// The pages in ascending order.
    var pages: [Int] {
        guard !isEmpty else { return [] }
        var result: [Int] = []
        for (index, word) in words.enumerated() {
            var rest = word
            while rest != 0 {
                result.append(index << 6 | rest.trailingZeroBitCount)
                rest &= rest - 1
            }
        }
        return result
    }
}
