// Standard output and standard error: buffered text out, whole lines to the terminal's error side.

import ArgumentParser
import Glibc

/// Text for the answer. Collected and written in pieces, since a dump has a line for every exit.
enum StandardOutput {
    private static nonisolated(unsafe) var buffer: [UInt8] = []
    private static let bufferBytes = 1 << 16

    static func line(_ text: String) {
        write(text)
        write("\n")
    }

    static func write(_ text: String) { write(Array(text.utf8)) }

    static func write(_ bytes: [UInt8]) {
        unsafe buffer.append(contentsOf: bytes)
        if unsafe buffer.count >= bufferBytes { flush() }
    }

    /// Ends the process where nobody reads any more: a closed pipe is the reader's wish, a full disk is trouble.
    static func flush() {
        guard unsafe !buffer.isEmpty else { return }
        let status = writeAll(unsafe buffer, to: STDOUT_FILENO)
        unsafe buffer.removeAll(keepingCapacity: true)
        guard status != 0 else { return }
        if status != EPIPE { StandardError.line("tracectl: standard output: \(systemMessage(status))") }
        exit(ExitStatus.trouble.rawValue)
    }
}

/// Text about the work: progress, warnings, errors.
enum StandardError {
    static func line(_ text: String) { write(text + "\n") }
    static func write(_ text: String) { _ = writeAll(Array(text.utf8), to: STDERR_FILENO) }
    static let isTerminal = isatty(STDERR_FILENO) == 1
}

/// - Returns: 0, or the error number that ended the writing.
private func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    var done = 0
    while done < bytes.count {
        // SAFETY: pointer and count are those of one buffer, which lives for the call.
        let written = unsafe bytes[done...].withUnsafeBytes { rest in
            unsafe Glibc.write(descriptor, rest.baseAddress, rest.count)
        }
        if written < 0 {
            if errno == EINTR { continue }
            return errno
        }
        done += written
    }
    return 0
}

/// The system's words for an error number: `No space left on device`.
func systemMessage(_ number: Int32) -> String {
    // SAFETY: strerror returns a C string that is valid until the next call on this thread; it is copied here.
    unsafe strerror(number).map { unsafe String(cString: $0) } ?? "error \(number)"
}
