// What is one for the process: the backend behind the library, its machines, the trace that NVMM_TRACE asks for.

import CNVMM
import Glibc
import NVMM
import SoftBackend
import SystemPackage
import TraceFile
import Tracer

/// State of the library between `nvmm_init` and the end of the process.
final class Library: @unchecked Sendable {
    static let shared = Library()

    static let machinesMax = Int(MachineRegistry.machinesMax)

    let registry = MachineRegistry()
    private let lock = PlainLock()
    private var backend: (any Backend)?
    private var commPage = CommPagePolicy.nvmm
    private var recorder: Recorder?
    private var hasChosenRecorder = false
    /// The process whose run is recorded.
    private var recordedProcess: pid_t = 0
    /// A preloaded tracer records: it says what the trace is good for.
    private var isToldToTracer = false
    /// Where the backend answers from a trace.
    private var recorded: RecordedClient?
    /// By machine number, which is one of all processes. The lowest free one is given out.
    private var machines: [ClientMachine?] = Array(repeating: nil, count: machinesMax)

    /// `nvmm_init`: the backend that `NVMM_BACKEND` names, recorded where `NVMM_TRACE` names a file.
    ///
    /// - Throws: ENXIO for a backend that this library does not have, as an absent driver gives.
    func initialize() throws(ErrorNumber) {
        try lock.during { () throws(ErrorNumber) in
            guard backend == nil else { return }
            let name = Self.environment("NVMM_BACKEND") ?? "soft"
            if name == "recorded" { return try answerFromRecording() }
            guard name == "soft" else {
                Self.warn("NVMM_BACKEND=\(name): no such backend here; there are soft and recorded")
                throw ErrorNumber(ENXIO)
            }
            let text = Self.environment("NVMM_COMM_PAGE")
            guard let policy = text.map({ CommPagePolicy($0) }) ?? .nvmm else {
                Self.warn("NVMM_COMM_PAGE=\(text ?? ""): give reasons and parts such as IO=0x17,RDMSR=0x2")
                throw ErrorNumber(ENXIO)
            }
            commPage = policy
            backend = SoftBackend(providing: policy)
            WriteProtection.choose(Self.environment("NVMM_WRITE_PROTECTION"))
        }
    }

    /// Lock held.
    private func answerFromRecording() throws(ErrorNumber) {
        let path = Self.environment("NVMM_RECORDING") ?? ""
        do {
            let client = try RecordedClient(recording: path, report: Self.environment("NVMM_REPLAY_REPORT"))
            recorded = client
            backend = client.backend
        } catch {
            Self.warn("NVMM_RECORDING=\(path): cannot answer from this trace: \(RecordedClient.describe(error))")
            throw ErrorNumber(ENXIO)
        }
        atexit { Library.shared.recorded?.finish() }
    }

    /// At the first machine, since a preloaded tracer begins only once `nvmm_init` has returned. Lock held.
    private func chooseRecorder() {
        guard !hasChosenRecorder else { return }
        hasChosenRecorder = true
        recordedProcess = getpid()
        let path = Self.environment("NVMM_TRACE") ?? ""
        if let tracer = PreloadedTracer.find(), record(by: tracer) {
            if !path.isEmpty { Self.warn("NVMM_TRACE=\(path): ignored: the preloaded tracer records") }
        } else if !path.isEmpty {
            record(to: path)
        }
    }

    private var recorderOptions: RecorderOptions {
        // Clients of libnvmm store into guest memory as they like: nothing announces it.
        var options = RecorderOptions(level: .replay, rawStoreCheck: .always, tool: "libnvmm")
        options.parameters = [
            .init(key: TraceHeader.Parameter.sliceInstructions, value: "\(TurnTakingVCPU.sliceInstructions)")
        ]
        if commPage != .nvmm {
            options.parameters.append(.init(key: TraceHeader.Parameter.commPage, value: commPage.text))
        }
        if let every = Self.environment("NVMM_TRACE_KEYFRAME_EVERY").flatMap({ UInt64($0) }), every > 0 {
            options.keyframeEverySteps = every
        }
        return options
    }

    private func record(by tracer: PreloadedTracer) -> Bool {
        guard let plain = backend else { return false }
        var options = recorderOptions
        options.level = tracer.level
        guard let sink = tracer.sink(Recorder.header(of: plain, options: options)) else { return false }
        let recorder = Recorder(sink, of: plain, options: options)
        self.recorder = recorder
        isToldToTracer = true
        backend = recorder.backend
        atexit { Library.shared.finishTrace() }
        return true
    }

    private func record(to path: String) {
        guard let plain = backend else { return }
        do throws(TraceWriteError) {
            var options = recorderOptions
            switch Self.environment("NVMM_TRACE_LEVEL") {
            case "exits": options.level = .exits
            case "client": options.level = .client
            default: break
            }
            var writing = TraceWriterOptions()
            writing.durable = Self.environment("NVMM_TRACE_DURABLE") == "1"
            let recorder = try Recorder(.file(.init(path)), of: plain, options: options, writerOptions: writing)
            self.recorder = recorder
            backend = recorder.backend
            atexit { Library.shared.finishTrace() }
        } catch {
            Self.warn("NVMM_TRACE=\(path): not recording: \(Self.describe(error))")
        }
    }

    /// At the end of the process. A thread may still be in a run: its machine gets no further turn.
    private func finishTrace() {
        // A child of fork that ends with exit(): the trace is its parent's, and so are the threads and locks behind it.
        guard getpid() == recordedProcess else { return }
        let (recorder, machines) = lock.during { (self.recorder, self.machines) }
        guard let recorder else { return }
        for machine in machines {
            machine?.turnTaking?.turns.take()
            machine?.turnTaking?.gate.close {}
        }
        // What the client still stores on its way out is not part of the trace, and must not wait.
        defer { for machine in machines { machine?.turnTaking?.gate.open() } }
        do throws(TraceWriteError) {
            let grade = try recorder.finish().grade
            for reason in grade.reasons where !isToldToTracer {
                if let text = Self.describe(reason) { Self.warn("the trace may replay differently: \(text)") }
            }
        } catch {
            Self.warn(
                "the trace is not complete: \(Self.describe(error)); `tracectl repair` makes one of what there is")
        }
    }

    /// - Throws: EBADF before ``initialize()``, as a call on a descriptor that was never opened.
    func ready() throws(ErrorNumber) -> any Backend {
        guard let backend = lock.during({ backend }) else { throw ErrorNumber(EBADF) }
        return backend
    }

    // MARK: - Machines

    func createMachine() throws(ErrorNumber) -> ClientMachine {
        _ = try ready()
        return try lock.during { () throws(ErrorNumber) in
            chooseRecorder()
            guard let backend else { throw ErrorNumber(EBADF) }
            // Where there is no registry, only what this process has counts.
            let first = registry.folder == nil ? machines.firstIndex { $0 == nil } ?? Self.machinesMax : 0
            guard let claim = registry.claim(from: UInt32(first)) else { throw ErrorNumber(ENOBUFS) }
            do throws(ErrorNumber) {
                let plain = try mapping { () throws(MachineError) in try backend.createMachine() }
                let machine = ClientMachine(
                    id: claim.id, registered: claim.file, in: registry,
                    machine: recorded == nil
                        ? TurnTakingMachine(
                            plain, mayRunConcurrently: recorder.map { $0.options.level == .exits } ?? true)
                        : plain,
                    capability: backend.capability)
                machines[Int(claim.id)] = machine
                return machine
            } catch {
                registry.release(claim.file)
                throw error
            }
        }
    }

    func machine(_ id: UInt32) throws(ErrorNumber) -> ClientMachine {
        try lock.during { () throws(ErrorNumber) in
            guard backend != nil else { throw ErrorNumber(EBADF) }
            guard id < Self.machinesMax else { throw ErrorNumber(EINVAL) }
            guard let machine = machines[Int(id)] else { throw ErrorNumber(ENOENT) }
            return machine
        }
    }

    func destroyMachine(_ id: UInt32) throws(ErrorNumber) -> ClientMachine {
        let machine = try machine(id)
        lock.during { machines[Int(id)] = nil }
        return machine
    }

    // MARK: - The process around

    private static func environment(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe String(cString: value)
    }

    private static func describe(_ error: TraceWriteError) -> String {
        guard case .io(let call, let number) = error, let text = unsafe strerror(number) else { return "\(error)" }
        return unsafe "\(call): \(String(cString: text))"
    }

    /// What the client's author can do something about; the level is what was asked for.
    private static func describe(_ reason: TraceGrade.Reason) -> String? {
        switch reason {
        case .recordLevel, .instructionsNotCounted, .clientRestoredState: nil
        case .lateRawStore(let object, let page, let step):
            "page \(page) of memory object \(object) changed unnoticed before step \(step)"
        case .writeDuringRun(let object, let step):
            "a thread stored into memory object \(object) while a VCPU ran, first before step \(step)"
        case .secondMachine: "there is a second machine, of which nothing is recorded"
        case .recordingFailed(let step): "the trace could not be written beyond step \(step)"
        case .recordsLost(let step): "records were lost at step \(step)"
        case .consumptionInferred, .runsOverlapped, .kernelDevice, .memoryNotWatched, .registersNotSampled: nil
        }
    }

    /// A line on standard error: the client's own output stays as it is.
    static func warn(_ text: String) {
        var line = Array("libnvmm: \(text)\n".utf8)
        _ = unsafe line.withUnsafeMutableBytes { unsafe write(2, $0.baseAddress, $0.count) }
    }
}
