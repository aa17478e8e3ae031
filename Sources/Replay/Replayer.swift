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
    let reader: TraceReader
    let backend: any Backend
    let reference: (any Backend)?
    let options: ReplayOptions
    /// The backend, where several threads may use it, and how many.
    private var sharedBackend: (any Backend & Sendable)?
    private(set) var jobs = 1

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

    /// A replayer that replays up to `jobs` parts of a long trace at the same time, each from a keyframe of the trace.
    /// It finds what a replay in one pass finds.
    ///
    /// - Parameters:
    ///   - backend: each thread makes a machine on it, with memory of its own.
    ///   - jobs: threads at most; not more than processors are of use.
    public init(
        _ reader: TraceReader, on backend: any Backend & Sendable, jobs: Int, reference: (any Backend)? = nil,
        options: ReplayOptions = ReplayOptions()
    ) {
        self.init(reader, on: backend, reference: reference, options: options)
        sharedBackend = backend
        self.jobs = jobs
    }

    /// Replays from the keyframe at or before ``ReplayOptions/from``.
    ///
    /// - Parameter progress: called every few thousand steps, and at the end.
    /// - Throws: ``ReplayError`` where the trace cannot be replayed here at all. A difference is a result.
    public func run(progress: (ReplayProgress) -> Void = { _ in }) throws(ReplayError) -> ReplayReport {
        try checkHeader()
        // A trace of a hypervisor has times that are known only from what came before.
        if let sharedBackend, jobs > 1, reader.isComplete, !reader.header.isOfHypervisor,
            reader.header.capability.countsInstructions, backend.capability.countsInstructions
        {
            let segments = ReplaySegment.divide(reader.keyframes, for: options, jobs: jobs)
            if segments.count > 1 { return try run(segments, on: sharedBackend, progress: progress) }
        }
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
            let report = try run.run { here in
                progress(here)
                return true
            }
            if let report { return report }
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
