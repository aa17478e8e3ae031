// Whole files that a guest is made of.

import Glibc
import SystemPackage

/// No image is larger: more is a mistake, not a reason to fill memory.
private let imageBytesMax = 2 << 30

/// - Throws: ``Trouble`` with the name of the file.
func readFile(_ path: String) throws -> [UInt8] {
    do {
        let file = try FileDescriptor.open(FilePath(path), .readOnly)
        return try file.closeAfter {
            var bytes: [UInt8] = []
            var piece = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                // SAFETY: the buffer is that of `piece`, which nothing else touches during the call.
                let count = try unsafe piece.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
                if count == 0 { return bytes }
                guard bytes.count + count <= imageBytesMax else { throw Errno.fileTooLarge }
                bytes.append(contentsOf: piece[..<count])
            }
        }
    } catch let error as Errno {
        throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("read", error.rawValue)))
    }
}

/// Takes away what a failed command made; whether that works is no longer of interest.
func removeFile(_ path: String) { _ = unsafe unlink(path) }
