// A recorded VCPU. What the comm page holds counts at the entry of a run: nvmm-facts, section 3.

internal import NVMM
internal import Synchronization
internal import TraceFile

/// The client's view of a recorded VCPU: the same comm page, results and errors.
final class TracedVCPU: VCPU {
    private let inner: any VCPU
    private let recording: MachineRecording
    /// Calls of ``stop()`` that are not yet logged. They come from any thread, so the next run logs them.
    private let stopCount = Atomic<Int>(0)
    /// Filled in place at each run, so that the record path allocates nothing.
    private let step: Untracked<Step>
    private var lastRunEnd: ContinuousClock.Instant?

    init(_ inner: any VCPU, recording: MachineRecording) {
        self.inner = inner
        self.recording = recording
        step = Untracked(
            Step(
                vcpu: inner.id, kind: .entered, exit: VCPUExit(), cached: [], retired: nil, clock: 0,
                state: VCPUState()))
    }

    var id: UInt32 { inner.id }
    var commPage: CommPage { inner.commPage }
    var timestampDistortion: UInt64 {
        get { inner.timestampDistortion }
        set { inner.timestampDistortion = newValue }
    }

    private func log(_ body: (Recorder) -> Void) {
        guard recording.recorder.begin() else { return }
        body(recording.recorder)
        recording.recorder.end()
    }

    private func log(_ kind: CallRecord.Kind, _ flags: StateFlags, _ cost: CallCost) {
        let call = CallRecord(vcpu: inner.id, kind: kind, flags: flags, cost: cost)
        log { $0.append { (writer) throws(TraceWriteError) in try writer.appendCall(call) } }
    }

    func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
        try inner.configure(configuration)
        log { $0.append(.configureVCPU(id: inner.id, configuration)) }
    }

    func fetchWantedState() throws(VCPUError) {
        let wanted = inner.commPage.stateWanted
        try inner.fetchWantedState()
        log(.getState, wanted, .systemCall)
    }

    @discardableResult func getState(_ flags: StateFlags) throws(VCPUError) -> CallCost {
        let cost = try inner.getState(flags)
        log(.getState, flags, cost)
        return cost
    }

    @discardableResult func setState(_ flags: StateFlags) -> CallCost {
        let cost = inner.setState(flags)
        log(.setState, flags, cost)
        return cost
    }

    @discardableResult func inject() -> CallCost {
        let cost = inner.inject()
        log(.inject, [], cost)
        return cost
    }

    func stop() {
        stopCount.add(1, ordering: .relaxed)
        inner.stop()
    }

    func giveWay() { inner.giveWay() }

    func counters() -> [Counter] { inner.counters() }
    func saveState() -> VCPUState { inner.saveState() }
    func saveState(into state: inout VCPUState) { inner.saveState(into: &state) }
    func savePrivateState() -> [UInt8] { inner.savePrivateState() }

    func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
        try inner.restore(state, privateState: privateState)
        if recording.recorder.begin() {
            recording.noteRestore()
            recording.recorder.end()
        }
    }

    // MARK: - Run

    func run(budget: UInt64?) throws(VCPUError) -> RunResult {
        if recording.holdsMemory { recording.runLock.lock() }
        defer { if recording.holdsMemory { recording.runLock.unlock() } }

        guard beginRun(budget: budget) else { return try inner.run(budget: budget) }
        let start = recording.recorder.options.recordsTime ? ContinuousClock.now : nil
        do {
            let result = try inner.run(budget: budget)
            endRun(started: start) {
                $0.kind = result.kind
                $0.exit = result.exit
                $0.retired = result.retired
                $0.failed = false
                // Not what the page showed before: another thread may have armed one since.
                $0.event = result.event
                if result.kind == .returnedEarly { $0.commit = [] }
            }
            return result
        } catch {
            if case .badEvent(let event) = error {
                // State is installed and the event consumed, the guest did not run: exit stays the last one.
                endRun(started: start) {
                    $0.kind = .entered
                    $0.event = event
                    $0.failed = true
                    $0.retired = nil
                }
            } else {
                abandonRun()
            }
            throw error
        }
    }

    /// Samples the state that the run will consume: setstate snapshots nothing, the page counts as it is now.
    private func beginRun(budget: UInt64?) -> Bool {
        let recorder = recording.recorder
        guard recorder.begin() else { return false }
        defer { recorder.end() }
        logStops()
        recording.willRun()
        recording.progress.value.runningCount += 1
        let page = inner.commPage
        step.value.budget = budget
        step.value.commit = page.stateCommit.intersection(.all)
        if !step.value.commit.isEmpty { step.value.committed.copy(step.value.commit, from: page.state) }
        return true
    }

    private func endRun(started start: ContinuousClock.Instant?, _ fill: (inout Step) -> Void) {
        fill(&step.value)
        step.value.cached = inner.commPage.stateCached
        inner.saveState(into: &step.value.state)
        step.value.clock = recording.inner.clock
        if let start {
            let end = ContinuousClock.now
            step.value.time = StepTime(
                guestNanoseconds: (end - start).nanoseconds,
                vmmNanoseconds: lastRunEnd.map { (start - $0).nanoseconds } ?? 0)
            lastRunEnd = end
        }
        let recorder = recording.recorder
        recorder.lockAlways()
        recording.progress.value.runningCount -= 1
        recorder.append { (writer) throws(TraceWriteError) in try writer.appendStep(step.value) }
        recording.didRun(retired: step.value.retired)
        recorder.end()
    }

    private func abandonRun() {
        recording.recorder.lockAlways()
        recording.progress.value.runningCount -= 1
        recording.recorder.end()
    }

    private func logStops() {
        let count = stopCount.exchange(0, ordering: .relaxed)
        let call = CallRecord(vcpu: inner.id, kind: .stop, cost: .commPage)
        for _ in 0..<max(count, 0) {
            recording.recorder.append { (writer) throws(TraceWriteError) in try writer.appendCall(call) }
        }
    }
}

extension Duration {
    /// Whole nanoseconds, 0 where negative.
    fileprivate var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return UInt64(seconds) &* 1_000_000_000 &+ UInt64(attoseconds / 1_000_000_000)
    }
}
