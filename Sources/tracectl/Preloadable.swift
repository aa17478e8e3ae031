// Whether a library can be preloaded into a program, looked up before it is started.

import Glibc
import SystemPackage

enum Preloadable {
    /// Why the dynamic linker would not load a library of ours into `command`.
    ///
    /// - Returns: nil where nothing is known against it: a script is judged by what it starts, which nobody can know.
    static func objection(to command: String) -> String? {
        guard let path = find(command) else { return nil }
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        let isRaised = status.st_mode & S_ISUID != 0 && status.st_uid != geteuid()
        if isRaised || (status.st_mode & S_ISGID != 0 && status.st_gid != getegid()) {
            return "is set-user-ID or set-group-ID: the dynamic linker preloads nothing into it; run it as its owner,"
                + " or record a copy without the bit"
        }
        guard let image = head(of: path), image.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return nil }
        if image.count > 4, image[4] == 1 { return "is a 32-bit program: the recording library is for 64-bit ones" }
        if let isStatic = isStatic(image), isStatic {
            return "is linked statically: no library can be preloaded into it; link it dynamically"
        }
        return nil
    }

    /// As the shell finds a command.
    private static func find(_ command: String) -> String? {
        if command.contains("/") { return command }
        guard let path = unsafe getenv("PATH") else { return nil }
        return unsafe String(cString: path).split(separator: ":", omittingEmptySubsequences: false)
            .map { "\($0.isEmpty ? "." : $0)/\(command)" }
            .first { unsafe access($0, X_OK) == 0 }
    }

    private static func head(of path: String) -> [UInt8]? {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly) else { return nil }
        defer { try? file.close() }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        guard let count = unsafe bytes.withUnsafeMutableBytes({ unsafe try? file.read(into: $0) }) else { return nil }
        return Array(bytes.prefix(count))
    }

    /// Whether an ELF image of 64 bits names no interpreter (PT_INTERP, ELF specification, "Program Header").
    ///
    /// - Returns: nil where the image is none, or its headers lie further on.
    private static func isStatic(_ image: [UInt8]) -> Bool? {
        func number(_ offset: Int, _ byteCount: Int) -> UInt64? {
            guard offset >= 0, offset <= image.count - byteCount else { return nil }
            return (0..<byteCount).reduce(0) { $0 | UInt64(image[offset + $1]) << UInt64($1 * 8) }
        }
        guard let start = number(32, 8).flatMap({ Int(exactly: $0) }), let size = number(54, 2),
            let count = number(56, 2), start < image.count
        else { return nil }
        for index in 0..<Int(count) {
            guard let type = number(start + index * Int(size), 4) else { return nil }
            if type == 3 { return false }
        }
        return true
    }
}
