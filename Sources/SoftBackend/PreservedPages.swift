// Pages of a memory object as snapshots know them: copied once they are about to change, and no earlier.

/// The bytes of one page at some time: in the object's memory until somebody writes there, and kept from then on.
///
/// Snapshots that agree about a page hold the same version.
final class PageVersion {
    /// ``PreservedPages``' serial when it came to be.
    let serial: UInt64
    /// Nil while the bytes are those in memory.
    fileprivate(set) var bytes: [UInt8]?

    init(serial: UInt64) { self.serial = serial }
}

/// Which version of each page is in memory.
///
/// Pages come in chunks, so that a change after a snapshot copies one chunk of references and not all of them.
final class PreservedPages {
    private static let chunkPages = 256
    typealias Chunk = [PageVersion]

    private var chunks: [Chunk]
    /// Counts snapshots. A version of this serial is in none yet.
    private var serial: UInt64 = 1

    /// All pages begin with a version that nobody wrote since.
    init(pageCount: Int) {
        let chunkCount = (pageCount + Self.chunkPages - 1) / Self.chunkPages
        chunks = (0..<chunkCount).map { chunk in
            (0..<min(Self.chunkPages, pageCount - chunk * Self.chunkPages)).map { _ in PageVersion(serial: 0) }
        }
    }

    /// The versions in memory, which a snapshot holds from now on.
    ///
    /// What changes from now on gets versions of a new serial.
    func share() -> [Chunk] {
        serial += 1
        return chunks
    }

    private subscript(page: Int) -> PageVersion {
        get { chunks[page / Self.chunkPages][page % Self.chunkPages] }
        set { chunks[page / Self.chunkPages][page % Self.chunkPages] = newValue }
    }

    /// Call before the page changes.
    ///
    /// - Parameter bytes: gives what it holds.
    func preserve(_ page: Int, _ bytes: () -> [UInt8]) {
        let version = self[page]
        guard version.serial != serial else { return }
        // Restoring can have brought back a version that was kept before.
        if version.bytes == nil { version.bytes = bytes() }
        self[page] = PageVersion(serial: serial)
    }

    /// Makes the versions of a snapshot those in memory.
    ///
    /// - Parameters:
    ///   - current: what the page holds, where somebody may want it later.
    ///   - replace: puts bytes there.
    func restore(_ wanted: [Chunk], current: (Int) -> [UInt8], replace: (Int, [UInt8]) -> Void) {
        for (number, chunk) in wanted.enumerated() where !Self.areSame(chunk, chunks[number]) {
            for (offset, version) in chunk.enumerated() where chunks[number][offset] !== version {
                let page = number * Self.chunkPages + offset
                let present = chunks[number][offset]
                if present.serial != serial, present.bytes == nil { present.bytes = current(page) }
                // A version that is not in memory was kept when it left.
                if let bytes = version.bytes { replace(page, bytes) }
                chunks[number][offset] = version
            }
        }
    }

    /// Whether both are the same array, not only equal.
    private static func areSame(_ a: Chunk, _ b: Chunk) -> Bool {
        unsafe a.withUnsafeBufferPointer { a in
            unsafe b.withUnsafeBufferPointer { b in unsafe a.baseAddress == b.baseAddress && a.count == b.count }
        }
    }
}
