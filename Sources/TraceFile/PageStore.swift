// The writer's side of the page store: which pages stand in the trace already.

import Glibc
import NVMM

/// Names of pages and their ordinals. A name is the XXH3-128 of the content; guests choose contents, so a hit is
/// compared byte for byte, and a page that collides is named by the next free number after its hash.
struct PageStore {
    private var ordinals: [PageHash: UInt32] = [:]
    private let spool: PageSpool
    private let hash: (RawSpan) -> PageHash
    private let zeroName: PageHash
    private(set) var count: UInt64 = 0

    init(spool: PageSpool, hash: @escaping (RawSpan) -> PageHash) {
        self.spool = spool
        self.hash = hash
        zeroName = unsafe hash([UInt8](repeating: 0, count: pageBytes).span.bytes)
    }

    /// - Returns: the page's name, and its ordinal where it is new and must be written; nil where it is known or zero.
    mutating func store(_ content: RawSpan) -> (name: PageHash, new: UInt32?) {
        var name = hash(content)
        while true {
            if name == zeroName {
                if isZero(content) { return (name, nil) }
            } else if let ordinal = ordinals[name] {
                switch spool.compare(ordinal, content) {
                case true?: return (name, nil)
                case false?: break
                // What cannot be compared is stored again: larger, never wrong.
                case nil: return (name, add(name, content))
                }
            } else {
                return (name, add(name, content))
            }
            name.low &+= 1
        }
    }

    private mutating func add(_ name: PageHash, _ content: RawSpan) -> UInt32 {
        let ordinal = UInt32(truncatingIfNeeded: count)
        ordinals[name] = ordinal
        count += 1
        spool.add(ordinal, content)
        return ordinal
    }

    /// 0 for the zero page, ordinal + 1 for a stored one, nil for one that was never stored.
    func slot(_ name: PageHash) -> UInt64? {
        if name == zeroName { return 0 }
        return ordinals[name].map { UInt64($0) + 1 }
    }

    private func isZero(_ content: RawSpan) -> Bool {
        for offset in stride(from: 0, to: content.byteCount, by: 8) {
            // SAFETY: a page has 4,096 bytes, held by TraceWriter.storePage.
            if unsafe content.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 { return false }
        }
        return true
    }
}

/// Contents of stored pages, by ordinal, in an unnamed file that vanishes with the process, or in memory.
final class PageSpool {
    /// Pages kept in memory where there is no file: 128 MiB.
    static let pagesInMemory: UInt32 = 1 << 15

    private let descriptor: Int32
    private var memory: [UInt8] = []

    /// - Parameter directory: where the file may grow without bound; nil for memory.
    init(directory: String?) {
        var descriptor: Int32 = -1
        if let directory {
            // O_TMPFILE, which Glibc's module does not show (Linux, uapi/asm-generic/fcntl.h).
            descriptor = unsafe open(directory, 0o20000000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o600)
        }
        self.descriptor = descriptor
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func add(_ ordinal: UInt32, _ content: RawSpan) {
        if descriptor >= 0 {
            // A failure (full disk) leaves a short page, which `compare` does not take for an answer.
            _ = unsafe content.withUnsafeBytes {
                unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(ordinal) * off_t(pageBytes))
            }
        } else if ordinal < Self.pagesInMemory {
            unsafe content.withUnsafeBytes { unsafe memory.append(contentsOf: $0) }
        }
    }

    /// nil where the content is not at hand.
    func compare(_ ordinal: UInt32, _ content: RawSpan) -> Bool? {
        if descriptor < 0 {
            guard ordinal < Self.pagesInMemory else { return nil }
            let start = Int(ordinal) * pageBytes
            let memory = memory
            let span = memory.span
            let bytes = unsafe span.bytes
            return isEqual(bytes.extracting(start..<start + pageBytes), content)
        }
        var page = [UInt8](repeating: 0, count: pageBytes)
        // SAFETY: the array has a page.
        let count = unsafe page.withUnsafeMutableBytes {
            unsafe pread(descriptor, $0.baseAddress, pageBytes, off_t(ordinal) * off_t(pageBytes))
        }
        guard count == pageBytes else { return nil }
        return unsafe isEqual(page.span.bytes, content)
    }

    private func isEqual(_ left: RawSpan, _ right: RawSpan) -> Bool {
        unsafe left.withUnsafeBytes { left in
            unsafe right.withUnsafeBytes { right in
                // SAFETY: both are pages.
                guard let first = left.baseAddress, let second = right.baseAddress else { return false }
                return unsafe left.count == right.count && memcmp(first, second, left.count) == 0
            }
        }
    }
}
