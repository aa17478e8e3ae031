// The guest's serial line on the user's side.

/// Collects bytes into lines. A class, since the PC's device holds on to it.
final class Console {
    private var line: [UInt8] = []
    private let toStandardError: Bool

    /// - Parameter toStandardError: where standard output carries the trace.
    init(toStandardError: Bool) { self.toStandardError = toStandardError }

    func write(_ byte: UInt8) {
        line.append(byte)
        if byte == 0x0A || line.count >= 4096 { flush() }
    }

    /// Ends an unfinished line, so that what follows begins its own.
    func end() {
        guard let last = line.last else { return }
        if last != 0x0A { line.append(0x0A) }
        flush()
    }

    private func flush() {
        let text = String(decoding: line, as: UTF8.self)
        line.removeAll(keepingCapacity: true)
        if toStandardError {
            StandardError.write(text)
        } else {
            StandardOutput.write(text)
            StandardOutput.flush()
        }
    }
}
