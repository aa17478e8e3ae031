// Whole files that a guest is made of.

import Glibc
import SystemPackage

/// No image is larger: more is a mistake, not a reason to fill memory.
private let imageBytesMax = 2 << 30

/// - Throws: ``Trouble`` with the name of the file.
func readFile(_ path: String) throws -> [UInt8] {
    do {
        if isFolder(path) {
            throw Trouble(path: path, cause: PlainTrouble(sentence: "is a folder: name a file in it"))
        }
        let file = try FileDescriptor.open(FilePath(path), .readOnly)
        return try file.closeAfter {
            // Where the size is known, nothing is read in vain. A pipe cannot seek: it is counted as it comes.
            if let size = try? file.seek(offset: 0, from: .end) {
                guard size <= imageBytesMax else { throw tooLarge(path) }
                try file.seek(offset: 0, from: .start)
            }
            var bytes: [UInt8] = []
            var piece = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                // SAFETY: the buffer is that of `piece`, which nothing else touches during the call.
                let count = try unsafe piece.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
                if count == 0 { return bytes }
                guard bytes.count + count <= imageBytesMax else { throw tooLarge(path) }
                bytes.append(contentsOf: piece[..<count])
            }
        }
    } catch let error as Errno {
        throw Trouble(path: path, cause: PlainTrouble(sentence: systemSentence("read", error.rawValue)))
    }
}

private func tooLarge(_ path: String) -> Trouble {
    Trouble(path: path, cause: PlainTrouble(sentence: "is larger than 2 GiB: give a smaller image"))
}

/// Takes away the regular file that a failed command made: a device or a pipe was there before. Whether it works is no
/// longer of interest.
func removeFile(_ path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return }
    _ = unsafe unlink(path)
}

func isFolder(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}
