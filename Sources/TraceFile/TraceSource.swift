// Where a reader's bytes come from: the file as long as it was when it was opened, then frames made of journals.

import Glibc

/// Random access to the bytes of a trace. Nothing is mapped: a file that shrinks must give an error, not a signal.
final class TraceSource {
    private let descriptor: Int32
    /// Bytes of the file, as of opening.
    let fileBytes: UInt64
    private(set) var tail: [UInt8] = []

    init(path: String) throws(TraceError) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .io(call: "open", errno: errno) }
        var status = stat()
        let code = unsafe fstat(descriptor, &status)
        guard code == 0, status.st_mode & S_IFMT == S_IFREG else {
            let problem = code != 0 ? errno : status.st_mode & S_IFMT == S_IFDIR ? EISDIR : ESPIPE
            close(descriptor)
            throw .io(call: "fstat", errno: problem)
        }
        self.descriptor = descriptor
        fileBytes = UInt64(status.st_size)
    }

    deinit { close(descriptor) }

    var end: UInt64 { fileBytes + UInt64(tail.count) }

    func appendTail(_ bytes: [UInt8]) { tail.append(contentsOf: bytes) }

    /// As many of `count` bytes from `offset` as there are.
    func read(_ offset: UInt64, _ count: Int) throws(TraceError) -> [UInt8] {
        guard offset < end, count > 0 else { return [] }
        if offset >= fileBytes {
            let start = Int(offset - fileBytes)
            return Array(tail[start..<min(tail.count, start + min(count, tail.count - start))])
        }
        let available = Int(min(UInt64(count), fileBytes - offset))
        var result = [UInt8](repeating: 0, count: available)
        let got = try readFully(descriptor, into: &result, at: offset)
        result.removeLast(available - got)
        return result
    }
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
func readFully(_ descriptor: Int32, into buffer: inout [UInt8], at offset: UInt64) throws(TraceError) -> Int {
    var done = 0
    while done < buffer.count {
        let wanted = buffer.count - done
        // SAFETY: the array lives through the call; `done` is within it.
        let count = unsafe buffer.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return 0 }
            return unsafe pread(descriptor, base + done, wanted, off_t(clamping: offset) &+ off_t(done))
        }
        if count > 0 {
            done += count
        } else if count == 0 {
            break
        } else if errno != EINTR {
            throw .io(call: "pread", errno: errno)
        }
    }
    return done
}
