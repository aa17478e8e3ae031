// Guest memory as it was when it was last looked at, to tell which bytes changed since.

public import NVMM

/// A copy of one memory object, page by page as pages change: one that never did is zero and takes no room.
public struct MemoryShadow: Sendable {
    private var pages: [Int: [UInt8]] = [:]
    public let byteCount: Int

    /// - Parameter byteCount: of the object, which holds zeros.
    public init(byteCount: Int) { self.byteCount = byteCount }

    /// Pages that have a copy: all others are zero here.
    public var copiedPages: some Sequence<Int> { pages.keys }

    /// Takes over bytes of the object.
    ///
    /// - Parameter range: within 0..<``byteCount``.
    public mutating func take(_ range: Range<Int>, from object: MemoryObject) {
        object.withBytes(range) { bytes in unsafe bytes.withUnsafeBytes { unsafe store($0, at: range.lowerBound) } }
    }

    /// Takes over bytes that the object is to hold.
    ///
    /// - Parameter offset: such that all of them lie within 0..<``byteCount``.
    public mutating func store(_ bytes: [UInt8], at offset: Int) {
        unsafe bytes.withUnsafeBytes { unsafe store($0, at: offset) }
    }

    private mutating func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        precondition(offset >= 0 && offset + bytes.count <= byteCount, "range outside the memory object")
        var done = 0
        while done < bytes.count {
            let (page, start) = ((offset + done) / pageBytes, (offset + done) % pageBytes)
            let count = min(pageBytes - start, bytes.count - done)
            unsafe pages[page, default: [UInt8](repeating: 0, count: pageBytes)].replaceSubrange(
                start..<start + count, with: bytes[done..<done + count])
            done += count
        }
    }

    /// Ranges of bytes, ascending offsets in the object, in which a page differs from its copy.
    ///
    /// Differences less than 16 bytes apart come as one range, which costs less than two. They are taken in words, so
    /// that a range may hold a few equal bytes at its ends.
    ///
    /// - Parameter page: within the object.
    public func differences(of page: Int, in object: MemoryObject) -> [Range<Int>] {
        let start = page * pageBytes
        return object.withBytes(start..<start + pageBytes) { now in
            let copy = pages[page]
            var ranges: [Range<Int>] = []
            for index in stride(from: 0, to: pageBytes, by: 8) where now.differs(from: copy, at: index) {
                let place = start + index
                if let last = ranges.last, place - last.upperBound < 16 {
                    ranges[ranges.count - 1] = last.lowerBound..<place + 8
                } else {
                    ranges.append(place..<place + 8)
                }
            }
            return ranges
        }
    }

    /// Bytes of the copy.
    ///
    /// - Parameter range: within one page.
    public func bytes(_ range: Range<Int>) -> [UInt8] {
        let page = range.lowerBound / pageBytes
        precondition(!range.isEmpty && (range.upperBound - 1) / pageBytes == page, "a range of one page")
        guard let copy = pages[page] else { return [UInt8](repeating: 0, count: range.count) }
        return Array(copy[range.lowerBound - page * pageBytes..<range.upperBound - page * pageBytes])
    }

    /// What changed in `candidates` since they were last looked at, which they are hereby: bytes as they are now.
    public mutating func takeChanges(
        in candidates: some Sequence<Int>, of object: MemoryObject
    ) -> [(offset: Int, bytes: [UInt8])] {
        var changes: [(offset: Int, bytes: [UInt8])] = []
        for page in candidates where page >= 0 && page < byteCount / pageBytes {
            for range in differences(of: page, in: object) {
                let bytes = object.withBytes(range) { bytes in unsafe bytes.withUnsafeBytes { unsafe Array($0) } }
                store(bytes, at: range.lowerBound)
                changes.append((range.lowerBound, bytes))
            }
        }
        return changes
    }
}

extension RawSpan {
    /// Whether eight bytes at `index` are not those of `page`; nil stands for zeros.
    fileprivate func differs(from page: [UInt8]?, at index: Int) -> Bool {
        precondition(index >= 0 && index + 8 <= byteCount && index + 8 <= page?.count ?? pageBytes)
        // SAFETY: both places were just checked; the array's span is not used after it.
        let word = unsafe unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
        guard let page else { return word != 0 }
        return unsafe word != page.span.bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
    }
}
