// Files that appear under their names when they are whole; devices and pipes, which have no other name.

import Glibc
import SystemPackage
import TraceFile

/// A file that is written in pieces.
final class OutputFile {
    private let path: String
    /// Where it is written until it is whole: its own name, where that is a device or a pipe.
    let part: String
    private let isRenamed: Bool
    private var file: FileDescriptor?
    private var buffer: [UInt8] = []
    private var failure: Errno?
    private static let bufferBytes = 1 << 20

    init(_ path: String) {
        self.path = path
        isRenamed = isReplaceable(path)
        part = isRenamed ? "\(path).part.\(getpid())" : path
    }

    /// What goes wrong is told by ``finish()``.
    func write(_ bytes: [UInt8]) {
        buffer += bytes
        if buffer.count >= Self.bufferBytes { flush() }
    }

    private func flush() {
        defer { buffer.removeAll(keepingCapacity: true) }
        guard failure == nil else { return }
        do {
            if file == nil {
                file = try FileDescriptor.open(
                    FilePath(part), .writeOnly, options: [.create, .truncate],
                    permissions: [.ownerReadWrite, .groupRead, .otherRead])
            }
            _ = try file?.writeAll(buffer)
        } catch let error as Errno {
            failure = error
        } catch {
            failure = .ioError
        }
    }

    /// - Throws: ``Trouble`` where it could not be written.
    func finish() throws {
        // An empty file is one too.
        if !buffer.isEmpty || file == nil && failure == nil { flush() }
        try? file?.close()
        file = nil
        if failure == nil, isRenamed, unsafe rename(part, path) != 0 { failure = Errno(rawValue: errno) }
        if let failure {
            discard()
            throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("write", failure.rawValue)))
        }
    }

    /// Takes away what is not whole.
    func discard() {
        if isRenamed { for name in [part, part + "-journal"] { removeFile(name) } }
    }
}

/// Writes a whole file in the place of what was there.
func writeText(_ text: String, to path: String) throws {
    let file = OutputFile(path)
    file.write(Array(text.utf8))
    try file.finish()
}

/// Whether another file may take the name: a device or a pipe is not ours to replace.
private func isReplaceable(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) != 0 || status.st_mode & S_IFMT == S_IFREG
}

/// Takes away a trace that is not whole, with its journals.
func removeTrace(_ path: String) {
    for journal in journals(beside: FilePath(path)) { removeFile(journal.string) }
    removeFile(path)
}

/// Gives a finished file its name.
///
/// - Throws: ``Trouble`` where that cannot be, or is a device, a pipe or a folder's.
func moveIntoPlace(_ part: String, _ path: String) throws {
    guard isReplaceable(path) else {
        throw Trouble(path: path, cause: PlainTrouble(sentence: "is no regular file: give another name"))
    }
    guard unsafe rename(part, path) == 0 else {
        throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("rename to", errno)))
    }
}
