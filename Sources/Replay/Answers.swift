// The recording of a RecordedBackend: what comes next in it, and whether the client does that.

internal import NVMM
internal import TraceFile

/// Shared by the wrappers of one machine, whose threads come here one at a time.
final class Answers: @unchecked Sendable {
    let options: RecordedBackendOptions
    /// Steps that end with NONE are slices of a client's run.
    let hasSlices: Bool

    private let lock = RecordedLock()
    private let cursor: TraceCursor
    /// The next event that a client's call must match.
    private var ahead: TraceEvent?
    /// Calls that a thread of the client made before others did what was recorded first.
    private var early: [MachineEvent] = []
    private var hasEnded = false
    private var isFinished = false
    /// Steps taken.
    private var position: UInt64 = 0
    private var history: EventHistory
    private var memory = ExpectedMemory()
    private var clock_: UInt64 = 0
    private var report_ = ClientReport()
    private var failure_: ReplayError?
    /// Puts what the guest wrote into its memory, and notes the page as dirty.
    var guestStore: ((MemoryObject, Int, [UInt8]) throws(MachineError) -> Void)?
    /// For the names of places in memory.
    private var gpaRanges: [GPARange] = []

    init(_ reader: TraceReader, options: RecordedBackendOptions) throws(ReplayError) {
        self.options = options
        hasSlices = reader.header.parameters.contains { $0.key == TraceHeader.Parameter.sliceInstructions }
        history = EventHistory(capacity: options.historyCount)
        do throws(TraceError) { cursor = try reader.cursor() } catch { throw .trace(error) }
    }

    var report: ClientReport { lock.during { report_ } }
    var failure: ReplayError? { lock.during { failure_ } }
    var clock: UInt64 { lock.during { clock_ } }

    /// Nothing is compared any more. Lock held.
    private var isOver: Bool { isFinished || !report_.isIdentical }
}

// MARK: - Machine calls

extension Answers {
    /// The client did something that a trace holds as `event`.
    func machineCall(_ event: MachineEvent) {
        lock.during {
            guard !isOver else { return }
            if case .advanceClock = event, options.clock == .taken { return }
            lookAhead()
            guard !isOver else { return }
            // Nobody waits here: what was recorded first may need a lock that the caller holds.
            early.append(event)
            settleEarly()
            if !early.isEmpty, ahead == nil || !options.mayWait() { differ(.order, vcpu: nil, [callField("-")]) }
        }
    }

    /// Takes the calls that were made and are next in the recording.
    private func settleEarly() {
        while case .machine(let event) = ahead, let place = early.firstIndex(of: event) {
            early.remove(at: place)
            take()
            report_.machineCallCount += 1
            switch event {
            case .advanceClock(let ticks): clock_ &+= ticks
            case .gpaMap(let range): gpaRanges.append(range)
            case .gpaUnmap(let gpa, let byteCount):
                gpaRanges.removeAll { $0.gpa == gpa && $0.byteCount == byteCount }
            case .hvaUnmap(let object): memory.remove(object)
            default: break
            }
            lookAhead()
        }
    }

    /// What the client did otherwise: the first call that is not next, or else what it does now.
    private func callField(_ now: String) -> ComparedField {
        field("call", expected: text(ahead), early.first.map(EventText.line) ?? now)
    }

    func add(_ object: MemoryObject) {
        // The call comes first: writes that were recorded behind it go to this object.
        lock.during { memory.add(object) }
        machineCall(.hvaMap(object: object.ordinal, byteCount: object.byteCount))
    }

    /// The client wrote through the machine.
    func noteWrite(_ object: MemoryObject, _ range: Range<Int>) {
        lock.during { memory.note(object.ordinal, range) }
    }

    func finish() -> ClientReport {
        lock.during {
            guard !isOver else { return report_ }
            lookAhead()
            settleEarly()
            if !early.isEmpty {
                differ(.order, vcpu: nil, [callField("-")])
            } else if let ahead {
                differ(
                    .endsEarly, vcpu: nil, [field("call", expected: EventText.line(ahead), "the client has ended")])
            } else if !isOver {
                compareMemory(vcpu: nil)
            }
            isFinished = true
            return report_
        }
    }
}

// MARK: - Runs

extension Answers {
    /// Answers one run of the client: one step, or where the recording library let others come between, several.
    func run(_ vcpu: RecordedVCPU, budget: UInt64?) throws(VCPUError) -> RunResult {
        try lock.during { () throws(VCPUError) in
            var retired: UInt64?
            var kind = RunKind.returnedEarly
            var event: VCPUEvent?
            var isFirst = true
            while true {
                let step = try nextStep(vcpu, isFirst: isFirst)
                if isFirst { report_.runCount += 1 }
                compare(step, vcpu, budget: budget, isFirst: isFirst)
                guard !isOver else { throw .notAsRecorded }
                vcpu.install(step, leavesEvent: step.event == nil)
                try takeStep(step)
                if step.failed { throw .badEvent(step.event ?? vcpu.commPage.event) }
                if step.kind == .entered { kind = .entered }
                event = step.event ?? event
                if let more = step.retired { retired = (retired ?? 0) &+ more }
                isFirst = false
                guard isSlice(step), continues(vcpu.id) else {
                    options.didRun(report_.runCount, report_.stepCount)
                    return RunResult(exit: step.exit, kind: kind, retired: retired, event: event)
                }
            }
        }
    }

    private func isSlice(_ step: Step) -> Bool {
        hasSlices && step.kind == .entered && step.exit.reason == .none
    }

    /// Whether the client's run went on after a slice. Where it returned (a signal handler had run), the next step of
    /// this VCPU has what the client committed meanwhile.
    private func continues(_ vcpu: UInt32) -> Bool {
        _ = awaitNext { event in
            if case .step(let step) = event { return step.vcpu == vcpu }
            return false
        }
        switch ahead {
        case .step(let step)? where step.vcpu == vcpu: return step.commit.isEmpty
        case .step?: return true
        default: return false
        }
    }

    private func nextStep(_ vcpu: RecordedVCPU, isFirst: Bool) throws(VCPUError) -> Step {
        guard !isOver else { throw .notAsRecorded }
        let isNext = awaitNext { event in
            if case .step(let step) = event { return step.vcpu == vcpu.id }
            return false
        }
        if isNext, case .step(let step) = ahead { return step }
        if !isOver {
            differ(.order, vcpu: early.isEmpty ? vcpu.id : nil, [callField("run VCPU \(vcpu.id)")])
        }
        throw .notAsRecorded
    }

    /// Takes the step, and what the guest wrote in it.
    private func takeStep(_ step: Step) throws(VCPUError) {
        take()
        position &+= 1
        clock_ = step.clock
        report_.stepCount += 1
        // They follow their step.
        lookAhead()
        guard !isOver else { throw .notAsRecorded }
    }

    private func compare(_ step: Step, _ vcpu: RecordedVCPU, budget: UInt64?, isFirst: Bool) {
        if step.kind == .returnedEarly {
            // Which stop it was that came in time is not the client's doing alone.
            if step.exit.reason == .stopped { _ = wait { vcpu.commPage.stop } }
            return
        }
        if step.event != nil { _ = wait { vcpu.commPage.eventCommit } }
        let page = vcpu.commPage
        let fields = CommitFields.compare(step, page)
        if !fields.isEmpty { return differ(.commit, vcpu: vcpu.id, fields) }
        let event = page.eventCommit ? page.event : nil
        // What another thread armed early waits for the step that took it.
        let isEarly = step.event == nil && event != nil && (vcpu.eventIsOfOtherThread || !isFirst)
        if !isEarly, CommitFields.normalised(event) != CommitFields.normalised(step.event) {
            return differ(
                .event, vcpu: vcpu.id,
                [field("event", expected: step.event.map(EventText.line), event.map(EventText.line))])
        }
        if !hasSlices, budget != step.budget {
            return differ(
                .budget, vcpu: vcpu.id,
                [field("budget", expected: step.budget.map(String.init), budget.map(String.init))])
        }
        compareMemory(vcpu: vcpu.id)
    }

    private func compareMemory(vcpu: UInt32?) {
        var found = memory.differences(limit: ClientDifference.fieldsMax)
        guard !found.isEmpty else { return }
        _ = wait {
            found = memory.differences(limit: ClientDifference.fieldsMax)
            return found.isEmpty
        }
        guard !found.isEmpty else { return }
        differ(
            .memory, vcpu: vcpu,
            found.map {
                field(place($0.object, $0.offset), expected: hexBytes($0.expected), hexBytes($0.actual))
            })
    }

    /// `object 0 offset 0x1004, gpa 0x1004`
    private func place(_ object: UInt32, _ offset: Int) -> String {
        let name = "object \(object) offset \(shortHex(UInt64(clamping: offset)))"
        let range = gpaRanges.first {
            $0.object == object && offset >= $0.offset && offset - $0.offset < $0.byteCount
        }
        guard let range else { return name }
        return name + ", gpa " + shortHex(range.gpa.rawValue &+ UInt64(offset - range.offset))
    }
}

// MARK: - The recording

extension Answers {
    /// Waits until the recording's next event is as wanted, which other threads of the client bring about. Lock held,
    /// but for the time of waiting.
    private func awaitNext(_ isWanted: (TraceEvent) -> Bool) -> Bool {
        _ = wait {
            guard !isOver else { return true }
            lookAhead()
            settleEarly()
            // Nobody brings it about any more.
            guard let ahead else { return true }
            return isWanted(ahead)
        }
        guard !isOver, let ahead else { return false }
        return isWanted(ahead)
    }

    private func wait(_ isDone: () -> Bool) -> Bool {
        let start = ContinuousClock.now
        while !isDone() {
            guard options.mayWait(), ContinuousClock.now - start < options.patience else { return false }
            lock.yield()
        }
        return true
    }

    private func take() {
        guard let event = ahead else { return }
        history.append(event, at: position)
        ahead = nil
        lock.wakeAll()
    }

    /// Finds the next event that a call must match. What happens of itself on the way happens: the guest's writes, and
    /// what memory is expected to hold.
    private func lookAhead() {
        while ahead == nil, !hasEnded, failure_ == nil {
            let event: TraceEvent?
            do throws(TraceError) { event = try cursor.next() } catch { return fail(.trace(error)) }
            guard let event else {
                hasEnded = true
                return
            }
            switch event {
            case .call, .keyframe, .machine(.destroy): break
            case .loss: fail(.eventsMissing(step: position))
            // The clock gets there with the step; the client, which has not come so far, must not see it earlier.
            case .machine(.advanceClock) where options.clock == .taken: break
            case .machine, .step: ahead = event
            case .memoryWrite(let write):
                history.append(event, at: position)
                if !memory.store(write) { fail(outside(write)) }
            case .guestWrite(let write): store(write)
            }
        }
    }

    private func store(_ write: MemoryWrite) {
        guard memory.store(write), let object = memory.object(write.object) else { return fail(outside(write)) }
        report_.guestBytes += UInt64(write.bytes.count)
        do throws(MachineError) { try guestStore?(object, write.offset, write.bytes) } catch {
            fail(.machineRefused(error, step: position))
        }
    }

    private func outside(_ write: MemoryWrite) -> ReplayError {
        memory.object(write.object) == nil
            ? .unknownObject(ordinal: write.object, step: position)
            : .outsideObject(ordinal: write.object, offset: write.offset, step: position)
    }

    /// The client wants a machine that the recording knows nothing of.
    func refuseSecondMachine() { lock.during { if !isOver { fail(.secondMachine(step: position)) } } }

    private func fail(_ error: ReplayError) {
        failure_ = error
        report_.trouble = ClientReport.words(error)
        options.didDiffer(report_)
        lock.wakeAll()
    }

    private func differ(_ kind: ClientDifference.Kind, vcpu: UInt32?, _ fields: [ComparedField]) {
        let isPast = kind == .order && ahead == nil
        if let ahead { history.append(ahead, at: position) }
        report_.difference = ClientDifference(
            kind: isPast ? .pastEnd : kind, step: position, vcpu: vcpu,
            fields: Array(fields.prefix(ClientDifference.fieldsMax)), lastEvents: history.lines)
        options.didDiffer(report_)
        lock.wakeAll()
    }

    private func field(_ name: String, expected: String?, _ actual: String?) -> ComparedField {
        ComparedField(name: name, expected: expected ?? "-", actual: actual ?? "-")
    }

    private func text(_ event: TraceEvent?) -> String {
        switch event {
        case .step(let step)?: "run VCPU \(step.vcpu)"
        case let event?: EventText.line(event)
        case nil: "the recording has ended"
        }
    }
}
