// A VCPU that answers from a trace. It has a comm page and a state, and no processor.

public import NVMM
internal import TraceFile

/// The client's view of a recorded VCPU.
public final class RecordedVCPU: VCPU {
    /// Refuses what a hypervisor would refuse; never runs.
    private let inner: any VCPU
    private let answers: Answers
    public let commPage = CommPage()
    /// After the last step.
    private var state: VCPUState
    /// The machine's clock when ``state`` was recorded: the time-stamp counter goes on with it.
    private var clockOfState: UInt64
    var isDestroyed = false
    /// Who armed the event that waits.
    private var injector: UInt = 0

    init(_ inner: any VCPU, answers: Answers) {
        self.inner = inner
        self.answers = answers
        state = inner.saveState()
        clockOfState = answers.clock
        commPage.state = inner.commPage.state
        commPage.stateCached = inner.commPage.stateCached
    }

    public var id: UInt32 { inner.id }

    public func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
        try inner.configure(configuration)
        answers.machineCall(.configureVCPU(id: id, configuration))
    }

    public func fetchWantedState() throws(VCPUError) {
        guard !isDestroyed else { throw .destroyed }
        let wanted = commPage.stateWanted.intersection(.all)
        commPage.state.copy(wanted, from: saveState())
        commPage.stateWanted = []
        commPage.stateCached.formUnion(wanted)
    }

    @discardableResult public func inject() -> CallCost {
        injector = RecordedLock.ownThread
        commPage.eventCommit = true
        return .commPage
    }

    public func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        guard !isDestroyed else { throw .destroyed }
        return try answers.run(self, budget: budget)
    }

    /// Whether another thread than the caller armed the event: when a run sees it is then a matter of time.
    var eventIsOfOtherThread: Bool { injector != 0 && injector != RecordedLock.ownThread }

    /// Consumes what the recorded run consumed, and gives the comm page what that run left there.
    ///
    /// - Parameter leavesEvent: the run took none; one that is armed waits for a later run.
    func install(_ step: Step, leavesEvent: Bool) {
        if step.kind == .entered {
            commPage.stateCommit = []
            commPage.stateWanted = []
            if !leavesEvent { commPage.eventCommit = false }
            state.copy(step.coverage, from: step.state)
            commPage.state.copy(step.cached.intersection(.all), from: state)
            commPage.stateCached = step.cached
        } else if step.exit.reason == .stopped {
            commPage.stop = false
        }
        clockOfState = step.clock
    }

    public func counters() -> [Counter] { [] }

    public func saveState() -> VCPUState {
        var state = state
        state[.tsc] &+= answers.clock &- clockOfState
        return state
    }

    public func savePrivateState() -> [UInt8] { [] }

    /// A recording goes one way only.
    public func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        throw .privateStateRefused("recorded VCPU")
    }
}
