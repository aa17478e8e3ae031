// A folder that is removed with its owner.

import Glibc
import SystemPackage

final class TemporaryFolder {
    let path: FilePath

    init() {
        var template = Array("/tmp/vmtrace-test-XXXXXX".utf8CString)
        path = unsafe template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, let made = unsafe mkdtemp(base) else { return FilePath("/tmp") }
            return FilePath(unsafe String(cString: made))
        }
    }

    func file(_ name: String) -> FilePath { path.appending(name) }

    func names() -> [String] {
        guard let folder = unsafe opendir(path.string) else { return [] }
        defer { unsafe closedir(folder) }
        var result: [String] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != "." && name != ".." { result.append(name) }
        }
        return result.sorted()
    }

    deinit {
        for name in names() { unsafe unlink(file(name).string) }
        unsafe rmdir(path.string)
    }
}

/// The whole content of a file.
func contents(_ path: FilePath) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, .readOnly)
    return try file.closeAfter {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = try unsafe buffer.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
            if count == 0 { return result }
            result += buffer[0..<count]
        }
    }
}

func store(_ bytes: [UInt8], _ path: FilePath) throws {
    let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: FilePermissions(rawValue: 0o600))
    _ = try file.closeAfter { try file.writeAll(bytes) }
}
