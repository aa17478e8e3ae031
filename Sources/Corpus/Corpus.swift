// A folder of traces that share their pages: the manifest, `traces/`, and the page store. Docs/corpus.md.

internal import Database
import Glibc
public import SystemPackage
public import TraceFile

/// A corpus on disk.
///
/// ```swift
/// let corpus = try Corpus.create(at: "corpus")
/// try corpus.add("boot.vmtrace", name: "boot", tags: ["firmware"], expect: .identical)
/// ```
public struct Corpus {
    public let folder: FilePath
    public private(set) var manifest: CorpusManifest

    // MARK: - Opening

    /// Makes an empty corpus in a folder that need not exist.
    public static func create(at folder: FilePath) throws(CorpusError) -> Corpus {
        try makeFolder(folder)
        let corpus = Corpus(folder: folder, manifest: CorpusManifest())
        guard !exists(corpus.manifestPath) else { throw .alreadyThere }
        try makeFolder(corpus.tracesFolder)
        _ = try corpus.openPages(.creating)
        try corpus.write(corpus.manifest)
        return corpus
    }

    /// Reads the manifest of a corpus.
    public static func open(_ folder: FilePath) throws(CorpusError) -> Corpus {
        var corpus = Corpus(folder: folder, manifest: CorpusManifest())
        guard exists(corpus.manifestPath) else { throw .notACorpus }
        corpus.manifest = try corpus.readManifest()
        return corpus
    }

    private init(folder: FilePath, manifest: CorpusManifest) {
        self.folder = folder
        self.manifest = manifest
    }

    var manifestPath: FilePath { folder.appending(CorpusManifest.fileName) }
    var tracesFolder: FilePath { folder.appending("traces") }
    public var pagesPath: FilePath { folder.appending(SharedPages.fileName) }

    /// The file of a trace, whether it is there or not.
    public func path(of name: String) -> FilePath { tracesFolder.appending(name + ".vmtrace") }

    private func readManifest() throws(CorpusError) -> CorpusManifest {
        let text: String
        do {
            let file = try FileDescriptor.open(manifestPath, .readOnly)
            text = try file.closeAfter { String(decoding: try readAll(file), as: UTF8.self) }
        } catch let error as Errno {
            throw .io(path: manifestPath.string, call: "read", errno: error.rawValue)
        } catch {
            throw .io(path: manifestPath.string, call: "read", errno: EIO)
        }
        do throws(ManifestError) { return try CorpusManifest(text) } catch { throw .manifest(error) }
    }

    private func write(_ manifest: CorpusManifest) throws(CorpusError) {
        let part = folder.appending("." + CorpusManifest.fileName + ".part")
        do {
            let file = try FileDescriptor.open(
                part, .writeOnly, options: [.create, .truncate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
            try file.closeAfter { _ = try file.writeAll(manifest.text.utf8) }
        } catch let error as Errno {
            throw .io(path: part.string, call: "write", errno: error.rawValue)
        } catch {
            throw .io(path: part.string, call: "write", errno: EIO)
        }
        try rename(part, to: manifestPath)
    }

    private func openPages(_ access: Database.Access) throws(CorpusError) -> SharedPages {
        do throws(SharedPagesError) { return try SharedPages(pagesPath, access) } catch { throw .pages(error) }
    }

    // MARK: - Changing

    /// Copies a trace into the corpus.
    ///
    /// - Parameter name: nil: that of the file without `.vmtrace`.
    /// - Returns: its entry, and what became of its pages.
    @discardableResult public mutating func add(
        _ trace: FilePath, name: String? = nil, tags: [String] = [], expect: ExpectedVerdict = .identical
    ) throws(CorpusError) -> (entry: CorpusEntry, pages: ShareReport) {
        let name = name ?? trace.stem ?? ""
        guard isCorpusName(name) else { throw .invalidName(name) }
        for tag in tags where !isCorpusName(tag) { throw .invalidTag(tag) }
        let lock = try CorpusLock(folder, .exclusive)
        defer { lock.release() }
        manifest = try readManifest()
        guard !manifest.entries.contains(where: { $0.name == name }) else { throw .nameTaken(name) }
        var entry = try describe(trace, name)
        entry.tags = Array(Set(tags)).sorted()
        entry.expect = expect
        let part = tracesFolder.appending("." + name + ".part")
        defer { unsafe unlink(part.string) }
        let report: ShareReport
        do throws(ShareError) {
            report = try shareTrace(path: trace, output: part, pages: try openPages(sharing: .writing))
        } catch { throw .share(trace: trace.string, error) }
        do throws(TraceError) { entry.digest = try fileDigest(path: part).hexadecimal } catch {
            throw .trace(name: name, error)
        }
        if let same = manifest.entries.first(where: { $0.digest == entry.digest }) { throw .alreadyIn(name: same.name) }
        try rename(part, to: path(of: name))
        manifest.entries.append(entry)
        manifest.entries.sort { $0.name < $1.name }
        try write(manifest)
        return (entry, report)
    }

    private func openPages(sharing access: Database.Access) throws(ShareError) -> SharedPages {
        do throws(SharedPagesError) { return try SharedPages(pagesPath, access) } catch { throw .pages(error) }
    }

    private func describe(_ trace: FilePath, _ name: String) throws(CorpusError) -> CorpusEntry {
        let reader: TraceReader
        var vcpus: Set<UInt32> = []
        do throws(TraceError) {
            reader = try TraceReader(path: trace)
            vcpus = try reader.vcpus()
        } catch { throw .trace(name: trace.string, error) }
        guard reader.header.level != .exits else { throw .notReplayable(trace: trace.string) }
        let totals = reader.totals
        return CorpusEntry(
            name: name, digest: "", tags: [], expect: .identical, backend: reader.header.backendName,
            vcpus: vcpus.count, steps: Int(clamping: totals.stepCount),
            instructions: Int(clamping: totals.instructionCount))
    }

    /// What ``prune()`` freed.
    public struct PruneReport: Equatable, Sendable {
        /// Files that no entry names.
        public var filesRemoved: [String] = []
        public var pagesRemoved = 0
        public var bytesFreed: UInt64 = 0
    }

    /// Takes an entry out of the manifest; ``prune()`` frees what it took.
    public mutating func remove(_ name: String) throws(CorpusError) {
        let lock = try CorpusLock(folder, .exclusive)
        defer { lock.release() }
        manifest = try readManifest()
        guard let place = manifest.entries.firstIndex(where: { $0.name == name }) else {
            throw .unknownTrace(name: name)
        }
        manifest.entries.remove(at: place)
        try write(manifest)
    }

    /// Frees what no entry refers to: files in `traces/`, and pages. A trace that cannot be read stops it, since its
    /// pages are not known.
    public mutating func prune() throws(CorpusError) -> PruneReport {
        let lock = try CorpusLock(folder, .exclusive)
        defer { lock.release() }
        manifest = try readManifest()
        var names: Set<PageHash> = []
        for entry in manifest.entries {
            do throws(TraceError) {
                names.formUnion(try TraceReader(path: path(of: entry.name)).sharedPageNames())
            } catch { throw .trace(name: entry.name, error) }
        }
        var report = PruneReport()
        let kept = Set(manifest.entries.map { $0.name + ".vmtrace" })
        for file in try files(in: tracesFolder) where !kept.contains(file) {
            let path = tracesFolder.appending(file)
            let size = fileBytes(path)
            guard unsafe unlink(path.string) == 0 else { throw .io(path: path.string, call: "unlink", errno: errno) }
            report.filesRemoved.append(file)
            report.bytesFreed += size
        }
        let before = fileBytes(pagesPath)
        do throws(SharedPagesError) {
            report.pagesRemoved = try SharedPages(pagesPath, .writing).keepOnly(names)
        } catch { throw .pages(error) }
        let after = fileBytes(pagesPath)
        report.bytesFreed += before > after ? before - after : 0
        return report
    }

    /// Writes a trace of the corpus with its pages in itself.
    public func export(_ name: String, to output: FilePath) throws(CorpusError) {
        guard manifest.entries.contains(where: { $0.name == name }) else { throw .unknownTrace(name: name) }
        do throws(ShareError) { try wholeTrace(path: path(of: name), output: output) } catch {
            throw .share(trace: name, error)
        }
    }

    // MARK: - Sizes

    /// What the corpus takes.
    public struct Size: Equatable, Sendable {
        public var tracesBytes: UInt64 = 0
        public var pagesBytes: UInt64 = 0
        public var pageCount = 0
    }

    public func size() throws(CorpusError) -> Size {
        var size = Size()
        for entry in manifest.entries { size.tracesBytes += fileBytes(path(of: entry.name)) }
        size.pagesBytes = fileBytes(pagesPath)
        do throws(SharedPagesError) { size.pageCount = try SharedPages(pagesPath, .reading).pageCount() } catch {
            throw .pages(error)
        }
        return size
    }
}

// MARK: - Files

/// Holds a corpus against other processes, by flock(2) on its folder: that works where nothing may be written, too.
struct CorpusLock {
    enum Kind { case shared, exclusive }

    private let descriptor: Int32
    /// Another addition takes no longer; a replay may.
    private static let patience = 60

    /// - Throws: ``CorpusError/busy`` after a minute.
    init(_ folder: FilePath, _ kind: Kind) throws(CorpusError) {
        descriptor = unsafe Glibc.open(folder.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .io(path: folder.string, call: "open", errno: errno) }
        for _ in 0..<Self.patience * 10 {
            if flock(descriptor, (kind == .shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 { return }
            usleep(100_000)
        }
        close(descriptor)
        throw .busy
    }

    func release() { close(descriptor) }
}

private func makeFolder(_ path: FilePath) throws(CorpusError) {
    guard unsafe mkdir(path.string, 0o777) != 0, errno != EEXIST else { return }
    throw .io(path: path.string, call: "mkdir", errno: errno)
}

private func rename(_ old: FilePath, to new: FilePath) throws(CorpusError) {
    guard unsafe Glibc.rename(old.string, new.string) == 0 else {
        throw .io(path: new.string, call: "rename", errno: errno)
    }
}

private func exists(_ path: FilePath) -> Bool {
    var status = stat()
    return unsafe stat(path.string, &status) == 0
}

private func fileBytes(_ path: FilePath) -> UInt64 {
    var status = stat()
    return unsafe stat(path.string, &status) == 0 ? UInt64(clamping: status.st_size) : 0
}

/// A manifest of a million traces is not larger.
private let textBytesMax = 1 << 30

func readAll(_ file: FileDescriptor) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        // SAFETY: the buffer is that of `piece`, which nothing else touches during the call.
        let count = try unsafe piece.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
        if count == 0 { return bytes }
        guard bytes.count < textBytesMax else { throw Errno(rawValue: EFBIG) }
        bytes.append(contentsOf: piece[..<count])
    }
}

/// Names in a folder, ascending, without `.` and `..`.
private func files(in folder: FilePath) throws(CorpusError) -> [String] {
    guard let handle = unsafe opendir(folder.string) else {
        throw .io(path: folder.string, call: "opendir", errno: errno)
    }
    defer { unsafe closedir(handle) }
    var names: [String] = []
    while let entry = unsafe readdir(handle) {
        // SAFETY: d_name is a C string within the entry, which lives until the next readdir.
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
            unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}
