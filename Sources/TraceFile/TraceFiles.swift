// The files of a trace that is being written: the trace, and its journals beside it.

import Glibc
import NVMM
public import SystemPackage

/// What `OUT.vmtrace` is accompanied by until it is finished: `OUT.vmtrace.open.0` and `.open.1`.
func journalPath(_ trace: String, _ number: Int) -> String { "\(trace).open.\(number)" }

/// Journals that stand beside a trace at most.
let journalsMax = 2

/// The journals beside a trace: while it is being written, and after its writer was killed.
///
/// - Parameter trace: its path; there need not be a file of that name.
public func journals(beside trace: FilePath) -> [FilePath] {
    (0..<journalsMax).map { journalPath(trace.string, $0) }.filter { path in
        var status = stat()
        return unsafe lstat(path, &status) == 0
    }.map { FilePath($0) }
}

/// Opens a destination. Where journals stand beside a file of its name, nothing is touched.
struct TraceFiles {
    let descriptor: Int32
    let ownsDescriptor: Bool
    private(set) var journals: [(path: String, descriptor: Int32)] = []
    /// Of the trace.
    let directory: String?
    let path: String?

    init(_ destination: TraceDestination, journalCount: Int) throws(TraceWriteError) {
        switch destination {
        case .descriptor(let file):
            descriptor = file.rawValue
            ownsDescriptor = false
            directory = nil
            path = nil
        case .file(let filePath):
            let name = filePath.string
            try Self.refuseUnrepaired(name)
            let opened = unsafe open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            guard opened >= 0 else { throw .io(call: "open", errno: errno) }
            descriptor = opened
            ownsDescriptor = true
            var status = stat()
            let isRegular = unsafe fstat(opened, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            path = isRegular ? name : nil
            let parent = filePath.removingLastComponent().string
            directory = parent.isEmpty ? "." : parent
            guard isRegular else { return }
            // A trace holds guest memory: nobody else may read it, whatever the file was before.
            guard fchmod(opened, 0o600) == 0 else { throw closing("fchmod") }
            for number in 0..<journalCount {
                let journal = journalPath(name, number)
                let file = unsafe open(journal, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
                guard file >= 0 else { throw closing("open") }
                journals.append((journal, file))
            }
            // Last: until here, whatever the file held is still there.
            guard ftruncate(opened, 0) == 0 else { throw closing("ftruncate") }
        }
    }

    /// What a killed writer left, or a running one still fills, is the only copy of its last steps. A device or a pipe
    /// has no journals, whatever stands beside it.
    private static func refuseUnrepaired(_ trace: String) throws(TraceWriteError) {
        var status = stat()
        if unsafe stat(trace, &status) == 0, status.st_mode & S_IFMT != S_IFREG { return }
        if let journal = TraceFile.journals(beside: FilePath(trace)).first {
            throw .unrepaired(trace: trace, journal: journal.string)
        }
    }

    private func closing(_ call: String) -> TraceWriteError {
        let error = TraceWriteError.io(call: call, errno: errno)
        discard()
        return error
    }

    /// Closes everything and removes the journals.
    func discard() {
        for journal in journals {
            close(journal.descriptor)
            unsafe unlink(journal.path)
        }
        if ownsDescriptor { close(descriptor) }
    }
}

/// Preamble and header frame.
func traceStart(_ header: TraceHeader, compressor: Compressor) throws(TraceWriteError) -> [UInt8] {
    let payload = header.encoded()
    guard payload.count <= 16 << 20 else { throw .headerTooLarge(byteCount: payload.count) }
    let frame = try EncodedFrame(
        compressing: payload, with: compressor, type: .header, flags: .critical, firstStep: 0)
    return Preamble().encoded() + frame.header.encoded() + frame.payload
}

/// Runs `body` with the signals blocked that a failing write would raise: EPIPE and EFBIG say the same.
func withoutSignals<Result>(_ body: () throws(TraceWriteError) -> Result) throws(TraceWriteError) -> Result {
    var signals = sigset_t()
    var before = sigset_t()
    unsafe sigemptyset(&signals)
    unsafe sigaddset(&signals, SIGPIPE)
    unsafe sigaddset(&signals, SIGXFSZ)
    unsafe pthread_sigmask(SIG_BLOCK, &signals, &before)
    defer {
        // What was raised meanwhile must not strike afterwards.
        var zero = timespec()
        while unsafe sigtimedwait(&signals, nil, &zero) > 0 {}
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    }
    return try body()
}
