// The machines of all processes of this user: what `nvmm_ctl` and `tracectl nvmm list` tell of them.

import CNVMM
import Glibc

/// A folder with a file for each machine number. Who has the file locked owns the machine; the kernel lets go of the
/// lock when that process ends, whatever way. The content is a `struct nvmm_ctl_mach_info`.
///
/// The numbers are one space for all of a user's processes, as they are where the machines live in a kernel.
public struct MachineRegistry: Sendable {
    /// `NVMM_CTL_MACH_INFO`.
    public struct Entry: Hashable, Codable, Sendable {
        public var id: UInt32
        public var vcpuCount: UInt32
        /// Sum of the HVA mappings.
        public var memoryBytes: UInt64
        public var process: Int32
        /// Of creation, since 1970.
        public var seconds: Int64
    }

    public static let machinesMax: UInt32 = 128
    /// nil where no folder of this user's own can be had: each process then has its numbers for itself.
    public let folder: String?

    /// The folder that `NVMM_RUNTIME_DIR` names, or one of the user's runtime files, or one in `/tmp`.
    public init() {
        let chosen: String
        if let own = Self.environment("NVMM_RUNTIME_DIR") {
            chosen = own
        } else if let runtime = Self.environment("XDG_RUNTIME_DIR") {
            chosen = runtime + "/nvmm"
        } else {
            chosen = "/tmp/nvmm-\(getuid())"
        }
        folder = Self.isOurs(chosen) ? chosen : nil
    }

    private static func environment(_ name: String) -> String? {
        guard let value = unsafe getenv(name), unsafe value[0] != 0 else { return nil }
        return unsafe String(cString: value)
    }

    /// A folder in /tmp that somebody else made, or may write to, is none to trust.
    private static func isOurs(_ folder: String) -> Bool {
        _ = unsafe mkdir(folder, 0o700)
        var status = stat()
        return unsafe lstat(folder, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR && status.st_uid == getuid()
            && status.st_mode & 0o022 == 0
    }

    private func path(_ folder: String, _ id: UInt32) -> String { "\(folder)/\(id)" }

    // MARK: - Owning

    /// Takes the lowest free number from `first` on.
    ///
    /// - Returns: the number, and the locked file that holds it until ``release(_:)``; -1 where there is no folder.
    ///   nil where all are taken.
    func claim(from first: UInt32) -> (id: UInt32, file: Int32)? {
        guard let folder else { return first < Self.machinesMax ? (first, -1) : nil }
        for id in first..<Self.machinesMax {
            let file = unsafe open(path(folder, id), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard file >= 0 else { continue }
            if flock(file, LOCK_EX | LOCK_NB) == 0 { return (id, file) }
            close(file)
        }
        return nil
    }

    func publish(_ entry: Entry, in file: Int32) {
        guard file >= 0 else { return }
        var info = nvmm_ctl_mach_info()
        info.machid = entry.id
        info.nvcpus = entry.vcpuCount
        info.nram = entry.memoryBytes
        info.pid = entry.process
        info.time = Int(entry.seconds)
        // One write of 32 bytes: a reader sees all of it or what was there before.
        _ = unsafe pwrite(file, &info, MemoryLayout<nvmm_ctl_mach_info>.size, 0)
    }

    func release(_ file: Int32) {
        guard file >= 0 else { return }
        _ = ftruncate(file, 0)
        close(file)
    }

    // MARK: - Looking

    /// The machine of this number, of whichever process; nil where nobody owns one.
    public func entry(_ id: UInt32) -> Entry? {
        guard let folder, id < Self.machinesMax else { return nil }
        let file = unsafe open(path(folder, id), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { return nil }
        defer { close(file) }
        // Got: its owner is gone.
        guard flock(file, LOCK_SH | LOCK_NB) != 0 else { return nil }
        var info = nvmm_ctl_mach_info()
        let size = MemoryLayout<nvmm_ctl_mach_info>.size
        guard unsafe pread(file, &info, size, 0) == size, info.machid == id else { return nil }
        return Entry(
            id: id, vcpuCount: info.nvcpus, memoryBytes: info.nram, process: info.pid, seconds: Int64(info.time))
    }

    /// All machines, ascending by number.
    public var entries: [Entry] { (0..<Self.machinesMax).compactMap { entry($0) } }
}
