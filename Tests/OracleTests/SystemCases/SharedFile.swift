// A file mapped into memory, shared with another process: the only place of the system cases with unsafe code.

import Glibc
import Synchronization

/// Every access is checked against the size; the other process may change the bytes at any time.
@safe final class SharedFile {
    private let start: UnsafeMutableRawPointer
    let byteCount: Int

    /// Makes the file, all zeros.
    init(path: String, byteCount: Int) throws(SystemCaseError) {
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
        guard descriptor >= 0 else { throw .noSharedMemory(errno: errno) }
        defer { close(descriptor) }
        guard ftruncate(descriptor, off_t(byteCount)) == 0,
            let mapped = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
            unsafe mapped != MAP_FAILED
        else { throw .noSharedMemory(errno: errno) }
        unsafe start = mapped
        self.byteCount = byteCount
    }

    deinit { _ = unsafe munmap(start, byteCount) }

    func write(_ bytes: [UInt8], at offset: Int) {
        precondition(offset >= 0 && offset + bytes.count <= byteCount)
        // SAFETY: the range was just checked.
        unsafe UnsafeMutableRawBufferPointer(start: start + offset, count: bytes.count).copyBytes(from: bytes)
    }

    func read(_ offset: Int, count: Int) -> [UInt8] {
        precondition(offset >= 0 && offset + count <= byteCount)
        // SAFETY: the range was just checked.
        return unsafe Array(UnsafeRawBufferPointer(start: start + offset, count: count))
    }

    /// A word that the other process may be writing.
    func word(at offset: Int) -> UInt64 { unsafe atomic(offset).pointee.load(ordering: .acquiring) }

    /// Everything written before is seen by whoever sees the word.
    func publish(_ value: UInt64, at offset: Int) { unsafe atomic(offset).pointee.store(value, ordering: .releasing) }

    private func atomic(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        precondition(offset >= 0 && offset + 8 <= byteCount && offset % 8 == 0)
        // SAFETY: an aligned word of the mapping; Atomic<UInt64> has the layout of UInt64.
        return unsafe (start + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}
