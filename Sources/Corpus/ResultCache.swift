// A folder of results by what was replayed: a replay that was done needs not be done again.

import Glibc
public import SystemPackage
internal import TraceFile

/// Results of earlier runs, a file for each.
public struct ResultCache: Sendable {
    private let folder: FilePath

    /// - Parameter folder: made where it is missing, its parent must be there.
    public init(_ folder: FilePath) throws(ResultsError) {
        self.folder = folder
        guard unsafe mkdir(folder.string, 0o777) != 0, errno != EEXIST else { return }
        throw .io(path: folder.string, call: "mkdir", errno: errno)
    }

    /// - Returns: nil where there is none, or none that can be read.
    func result(_ key: ResultKey) -> ReplayResult? {
        guard let results = try? ResultsFile.read(path(key)), let result = results.first, result.key == key else {
            return nil
        }
        return result
    }

    /// Keeps a result. That it cannot be kept costs time at the next run and nothing else.
    func store(_ result: ReplayResult) {
        guard result.verdict.isFinal else { return }
        let path = path(result.key)
        let part = FilePath(path.string + ".\(getpid())")
        do {
            let file = try FileDescriptor.open(
                part, .writeOnly, options: [.create, .truncate],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
            try file.closeAfter { _ = try file.writeAll((ResultsFile.line(result) + "\n").utf8) }
            unsafe rename(part.string, path.string)
        } catch {
            unsafe unlink(part.string)
        }
    }

    private func path(_ key: ResultKey) -> FilePath {
        let text = [key.digest, key.backend, key.build].joined(separator: "\n")
        let name = unsafe PageHash(content: Array(text.utf8).span.bytes).hexadecimal
        return folder.appending(name + ".jsonl")
    }
}
