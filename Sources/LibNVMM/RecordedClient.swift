// NVMM_BACKEND=recorded: the client runs with no processor, answered from a trace that holds what it did before.

import Glibc
import NVMM
import Replay
import SoftBackend
import SystemPackage
import TraceFile

/// The backend that `NVMM_RECORDING` names a trace for, and the report of what the client did otherwise, which goes to
/// the file that `NVMM_REPLAY_REPORT` names.
final class RecordedClient: @unchecked Sendable {
    let backend: RecordedBackend
    private let report: ReportFile

    /// - Throws: a ``TraceError`` or ``ReplayError`` where the trace is none to answer from.
    init(recording path: String, report reportPath: String?) throws {
        let report = ReportFile(reportPath)
        var options = RecordedBackendOptions(clock: .taken, mayWait: { Self.hasThreads })
        // At once: a client whose run fails may end in any way.
        options.didDiffer = { report.write($0) }
        options.didRun = { report.note(runCount: $0, stepCount: $1) }
        // Its VCPUs never run: it maps the memory where the client wants it.
        backend = try RecordedBackend(
            try TraceReader(path: FilePath(path)), memory: SoftBackend(), options: options)
        self.report = report
        report.begin()
    }

    static func describe(_ error: any Error) -> String {
        switch error {
        case ReplayError.guestWritesMissing: "it lacks what the guest wrote to memory, which `tracectl fill` adds"
        case TraceError.io(let call, let number):
            unsafe strerror(number).map { unsafe "\(call): \(String(cString: $0))" } ?? "\(call)"
        default: "\(error)"
        }
    }

    /// At the end of the process.
    func finish() { report.write(backend.finish()) }

    /// Whether the client has other threads: a folder's links are those of the folders in it, and two.
    private static var hasThreads: Bool {
        var status = stat()
        return unsafe stat("/proc/self/task", &status) == 0 && status.st_nlink > 3
    }
}

/// Where tracectl reads the verdict.
private struct ReportFile: Sendable {
    let path: String?
    private let process = getpid()
    /// Beside it: runs and steps so far, for a client that ends without a report. -1 where there is none.
    private let progress: Int32
    /// Another program of the command has begun to report: one that called exec, say.
    private let isSecond: Bool

    init(_ path: String?) {
        self.path = path
        isSecond = path.map { unsafe access($0, F_OK) == 0 } ?? false
        progress =
            isSecond
            ? -1
            : path.map { unsafe open($0 + ".progress", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600) } ?? -1
    }

    func note(runCount: UInt64, stepCount: UInt64) {
        guard progress >= 0 else { return }
        let counts: InlineArray<2, UInt64> = [runCount, stepCount]
        // SAFETY: 16 bytes of two integers. A client that closed the descriptor loses this, and nothing else.
        _ = unsafe withUnsafeBytes(of: counts) { unsafe pwrite(progress, $0.baseAddress, $0.count, 0) }
    }

    /// Says that a client has begun, so that one that ends without a report is told from one that never came here.
    func begin() {
        var report = ClientReport()
        report.trouble = isSecond ? "a second program of the command uses libnvmm" : ClientReport.unfinished
        store(report)
    }

    /// A child of the client's has nothing to report.
    func write(_ report: ClientReport) {
        if !isSecond { store(report) }
    }

    private func store(_ report: ClientReport) {
        guard let path, getpid() == process else { return }
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        defer { close(file) }
        var bytes = Array((report.json + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
