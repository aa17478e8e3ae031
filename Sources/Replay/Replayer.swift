// Replays a trace on a backend and compares: Docs/determinism.md.

public import NVMM
public import TraceFile

/// A replay of one trace.
///
/// ```swift
/// let report = try Replayer(reader, on: SoftBackend()).run()
/// print(report.isClean ? "identical" : "different")
/// ```
public struct Replayer {
    private let reader: TraceReader
    private let backend: any Backend
    private let reference: (any Backend)?
    private let options: ReplayOptions

    /// - Parameters:
    ///   - backend: executes the trace. One machine is made on it, and more to find a divergence's cause.
    ///   - reference: a backend known to be right, to find the instruction that `backend` executes wrongly.
    public init(
        _ reader: TraceReader, on backend: any Backend, reference: (any Backend)? = nil,
        options: ReplayOptions = ReplayOptions()
    ) {
        self.reader = reader
        self.backend = backend
        self.reference = reference
        self.options = options
    }

    /// Replays from the keyframe at or before ``ReplayOptions/from``.
    ///
    /// - Parameter progress: called every few thousand steps, and at the end.
    /// - Throws: ``ReplayError`` where the trace cannot be replayed here at all. A difference is a result.
    public func run(progress: (ReplayProgress) -> Void = { _ in }) throws(ReplayError) -> ReplayReport {
        try checkHeader()
        return try run(observer: nil, progress: progress)
    }

    func run(
        observer: (any ReplayObserver)?, progress: (ReplayProgress) -> Void
    ) throws(ReplayError) -> ReplayReport {
        // Few guests read times: the others are not to pay for it. More shadows settle what two leave open.
        for shadowCount in ReplayRun.shadowCounts {
            let run = try ReplayRun(
                reader, backend: backend, reference: reference, options: options, observer: observer,
                shadowCount: shadowCount)
            if let report = try run.run(progress: progress) { return report }
        }
        throw .noSteps
    }

    func checkHeader() throws(ReplayError) {
        let header = reader.header
        guard header.level != .exits else { throw .exitsLevel }
        if let to = options.to, options.from >= to { throw .noSuchStep(options.from) }
        // Recorded from outside of a hypervisor, whose own that is: any backend may show whether it does the same.
        if header.isOfHypervisor { return }
        guard options.allowsOtherBackend || header.backendName == backend.name else {
            throw .backendMismatch(recorded: header.backendName, replaying: backend.name)
        }
        guard header.processorModel == backend.processorModel else {
            throw .processorModelMismatch(recorded: header.processorModel, replaying: backend.processorModel)
        }
        try checkCPUID(header.cpuidTable, backend.cpuidTable)
    }

    private func checkCPUID(_ recorded: [CPUIDEntry], _ replaying: [CPUIDEntry]) throws(ReplayError) {
        for index in 0..<max(recorded.count, replaying.count) {
            let left = index < recorded.count ? recorded[index] : nil
            let right = index < replaying.count ? replaying[index] : nil
            guard left != right, let entry = left ?? right else { continue }
            let isSameRow = left?.leaf == right?.leaf && left?.subleaf == right?.subleaf
            throw .cpuidMismatch(
                leaf: entry.leaf, subleaf: entry.subleaf, recorded: left?.registers,
                replaying: isSameRow ? right?.registers : nil)
        }
    }
}
