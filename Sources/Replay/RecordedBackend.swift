// A backend that answers from a trace, with no processor: what regression-tests a VMM's device models where there is no
// hypervisor. Docs/determinism.md, "Replay into the client".

public import NVMM
public import TraceFile

/// How to answer from a trace.
public struct RecordedBackendOptions: Sendable {
    /// What to make of the machine's clock.
    public enum Clock: Sendable {
        /// The client's advances are a function of what the interface gave it: they are compared.
        case compared
        /// They come from host time: the recorded ones take their place.
        case taken
    }

    public var clock: Clock
    /// How long a call waits for what was recorded before it, which another thread of the client is to do.
    public var patience: Duration
    /// Whether anybody else could do it: what is waited for in vain is reported no earlier.
    public var mayWait: @Sendable () -> Bool
    /// Events that a report lists at most.
    public var historyCount: Int
    /// Hears of the first difference, or of the end of what can be read, when it is found. No call may come from here.
    public var didDiffer: @Sendable (ClientReport) -> Void = { _ in }
    /// Hears of each run that was as recorded: runs so far, and steps of the trace that they took. As for
    /// ``didDiffer``, no call may come from here.
    public var didRun: @Sendable (_ runCount: UInt64, _ stepCount: UInt64) -> Void = { _, _ in }

    public init(
        clock: Clock = .compared, patience: Duration = .seconds(10), historyCount: Int = 8,
        mayWait: @escaping @Sendable () -> Bool = { false }
    ) {
        self.clock = clock
        self.patience = patience
        self.historyCount = max(historyCount, 1)
        self.mayWait = mayWait
    }
}

/// Answers each run of a client with the recorded exit, state and memory writes, and compares what the client does.
///
/// ```swift
/// let backend = try RecordedBackend(reader, memory: SoftBackend())
/// vmm.run(on: backend)                    // as it ran when it was recorded
/// print(backend.finish().isIdentical)
/// ```
///
/// Compared are, in order: VCPUs and mappings made and removed, configurations, advances of the clock, and at each run
/// the parts committed with their values, the event, the budget, and guest memory, by content. Reserved bits of the
/// state are not compared, nor how often the client asks for state, nor when it calls `stop`.
///
/// After the first difference runs throw ``VCPUError/notAsRecorded``: the recorded answers fit no longer.
public final class RecordedBackend: Backend {
    private let answers: Answers
    private let memory: any Backend
    private let header: TraceHeader
    private var hasMachine = false

    /// - Parameters:
    ///   - reader: of a trace of level `client`.
    ///   - memory: gives the guest memory its addresses, and refuses what a hypervisor would refuse. Its VCPUs never
    ///     run.
    /// - Throws: ``ReplayError/guestWritesMissing(_:)`` for a trace of another level; ``ReplayError/trace(_:)``.
    public init(
        _ reader: TraceReader, memory: any Backend, options: RecordedBackendOptions = RecordedBackendOptions()
    ) throws(ReplayError) {
        header = reader.header
        guard header.level == .client else { throw .guestWritesMissing(header.level) }
        self.memory = memory
        answers = try Answers(reader, options: options)
    }

    public var name: String { header.backendName }
    public var capability: Capability { header.capability }
    public var processorModel: String { header.processorModel }
    public var cpuidTable: [CPUIDEntry] { header.cpuidTable }

    /// - Throws: ``MachineError/tooMany(limit:)`` for a second machine: a trace is of one, and nothing can be said of
    ///   what the client does from there on.
    public func createMachine() throws(MachineError) -> any Machine {
        guard !hasMachine else {
            answers.refuseSecondMachine()
            throw .tooMany(limit: 1)
        }
        let machine = try memory.createMachine()
        hasMachine = true
        return RecordedMachine(machine, answers: answers)
    }

    /// What was found so far.
    public var report: ClientReport { answers.report }
    /// Why the recording could not be read on; nil while it can.
    public var failure: ReplayError? { answers.failure }

    /// The client has ended: whatever is left of the recording it did not do. Further calls are not compared.
    public func finish() -> ClientReport { answers.finish() }
}
