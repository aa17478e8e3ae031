// One pass over a trace: executes each event, compares each step and keyframe, and keeps the report.

internal import NVMM
internal import TraceFile

/// State of a replay while it runs.
final class ReplayRun {
    private let reader: TraceReader
    private let backend: any Backend
    private let reference: (any Backend)?
    private let options: ReplayOptions
    private let machine: ReplayMachine
    private let startKeyframe: Int?
    private var report = ReplayReport()

    /// Steps before the present place. Keyframes of a damaged trace may set it to any number: it wraps.
    private var position: UInt64 = 0
    /// Why the next steps cannot be executed, until a keyframe.
    private var gap: String?
    /// The last keyframe at which everything was equal, and its number in the trace.
    private var equalKeyframe: Keyframe?
    private var equalKeyframeIndex: Int?
    /// What the replay's clock lacks since the recorded state was loaded; a keyframe sets the clock itself.
    private var clockSkew: UInt64 = 0
    private var history: EventHistory
    private var isEnded = false
    private let observer: (any ReplayObserver)?
    /// The same replay on a backend that counts instructions, for one that does not: it finds where runs ended.
    private var twin: ReplayRun?

    init(
        _ reader: TraceReader, backend: any Backend, reference: (any Backend)?, options: ReplayOptions,
        observer: (any ReplayObserver)? = nil
    ) throws(ReplayError) {
        self.reader = reader
        self.backend = backend
        self.reference = reference
        self.options = options
        self.observer = observer
        machine = try ReplayMachine(
            on: backend, for: reader.header, memoryBytesMax: options.memoryBytesMax)
        history = EventHistory(capacity: options.historyCount)
        startKeyframe =
            options.from == 0 ? nil : reader.keyframes.last { $0.stepCount <= options.from }.map { Int($0.index) }
        if !backend.capability.countsInstructions, let reference, reference.capability.countsInstructions {
            twin = try ReplayRun(reader, backend: reference, reference: nil, options: options)
        }
    }

    func run(progress: (ReplayProgress) -> Void) throws(ReplayError) -> ReplayReport {
        report.traceIsComplete = reader.isComplete
        let cursor: TraceCursor
        do { cursor = try reader.cursor(fromKeyframe: startKeyframe) } catch { throw .trace(error) }
        if startKeyframe != nil {
            gap = "the replay starts at a keyframe"
            twin?.gap = gap
        }
        var isFirst = true
        while !isEnded {
            let next: TraceEvent?
            do { next = try cursor.next() } catch { throw .trace(error) }
            guard let event = next else { break }
            if isFirst, startKeyframe != nil {
                guard case .keyframe(let keyframe) = event else { throw .keyframeExpected(step: 0) }
                report.firstStep = keyframe.stepCount
            }
            isFirst = false
            try execute(event)
            if let observer, report.divergence == nil, gap == nil, !isEnded {
                try observer.didExecute(event, on: machine)
            }
            if case .step = event, (position &- report.firstStep) % 4096 == 0 { progress(here) }
        }
        if !isEnded { try settleAll() }
        if position == 0, options.from == 0, report.divergence == nil { throw .noSteps }
        // A divergence on the way from the keyframe is what the replay has to say, though it lies before the range.
        guard report.divergence != nil || position > options.from else {
            throw .noSuchStep(options.from)
        }
        report.endStep = position
        progress(here)
        return report
    }

    private var here: ReplayProgress { ReplayProgress(stepsDone: position &- report.firstStep, step: position) }

    private func execute(_ event: TraceEvent) throws(ReplayError) {
        if let twin, !twin.isEnded {
            try twin.execute(event)
        }
        machine.step = position
        switch event {
        case .step(let step):
            if let to = options.to, position >= to {
                isEnded = true
                return
            }
            history.append(event, at: position)
            try execute(step)
            position &+= 1
        case .keyframe(let keyframe): try execute(keyframe)
        case .loss(let loss):
            history.append(event, at: position)
            gap = "events lost: " + loss.reason
        case .machine(let change):
            history.append(event, at: position)
            if gap == nil { try machine.apply(change) }
        case .memoryWrite(let write):
            history.append(event, at: position)
            if write.isRawStore { report.rawStoreCount += 1 }
            if gap == nil { try machine.apply(write) }
        case .call: history.append(event, at: position)
        // What the replay's own guest does: the registers after the step and the pages at keyframes tell of it.
        case .guestWrite: break
        }
    }
}

// MARK: - Steps

extension ReplayRun {
    private func execute(_ step: Step) throws(ReplayError) {
        if let gap {
            report.count(.unverifiable, because: gap)
            return
        }
        if step.kind == .returnedEarly && step.exit.reason == .none {
            // A host interrupt before the entry: nothing was consumed, and nothing happens to a guest.
            report.count(.explained, because: "host interrupt before the guest was entered")
            return
        }
        if machine.hypervisorMSRs != nil { return try executeAsHypervisor(step) }
        if step.isFoundByRegisters(machine.findsPlacesByRegisters) { return try executeUncounted(step) }
        let countsInstructions = reader.header.capability.countsInstructions
        if !countsInstructions, !step.failed, step.kind == .entered, step.exit.reason.isAsynchronous {
            gap = "a run ended without an exit, where only the hypervisor knows"
            report.count(.unverifiable, because: "a run ended without an exit, where only the hypervisor knows")
            return
        }
        var outcome = try machine.run(step)
        outcome.clock &+= clockSkew
        report.totals.instructions &+= outcome.retired ?? 0
        if outcome.matches(step, countsInstructions: countsInstructions) {
            report.count(.identical)
            return
        }
        report.count(.divergent)
        if report.divergence == nil {
            report.divergence = try describe(step, outcome, at: position, fields: outcome.fields(against: step))
        }
        guard options.resynchronises else {
            isEnded = true
            return
        }
        try machine.adopt(step)
        clockSkew = step.clock &- machine.machine.clock
    }

    /// - Parameter outcome: nil where no run of the replay ended with this step.
    private func describe(
        _ step: Step, _ outcome: RunOutcome?, at position: UInt64, fields: [ComparedField]
    ) throws(ReplayError) -> Divergence {
        let code = GuestCode(machine: machine.machine)
        let finding = locate(end: position, includesEnd: true)
        let state: VCPUState
        if let outcome { state = outcome.state } else { state = try machine.vcpu(step.vcpu).saveState() }
        var kind = outcome?.divergenceKind(against: step) ?? .exitPayload
        if finding.wrongInstruction?.isEventDelivery == true { kind = .injection }
        let isElsewhere = step.state[.rip] != state[.rip]
        return Divergence(
            kind: kind, step: position, vcpu: step.vcpu, fields: fields,
            injected: step.event.map(EventText.line),
            instructionAtExit: code.instruction(at: step.state, step: position),
            instructionAtActualExit: isElsewhere ? code.instruction(at: state, step: position) : nil,
            instructionsBefore: finding.before, wrongInstruction: finding.wrongInstruction,
            referenceAgreesWithReplay: finding.referenceAgrees, lastEvents: history.lines, memory: finding.memory ?? [],
            memoryWasCompared: finding.memory != nil, memoryEqualAtStep: report.memoryEqualAtStep)
    }

    /// The cause as far as it can be found. What goes wrong on the way must not hide the divergence itself.
    private func locate(end: UInt64, includesEnd: Bool) -> FaultLocator.Finding {
        let locator = FaultLocator(
            reader: reader, primary: backend, reference: reference, options: options,
            startKeyframe: equalKeyframeIndex ?? startKeyframe)
        return (try? locator.locate(end: end, includesEnd: includesEnd)) ?? FaultLocator.Finding()
    }
}

// MARK: - Steps of KVM

extension ReplayRun {
    /// Finishes the instruction that the VCPU stands at, then runs, or finds that the step ended with the same
    /// instruction.
    private func executeAsHypervisor(_ step: Step) throws(ReplayError) {
        switch try machine.finish(step.vcpu) {
        case .done(let claims, let rip): try settle(claims, of: step.vcpu, begunAt: rip)
        case .differs(let field): return try report(step, at: position, [field])
        case .asks(let isWrite, let gpa): return try executeAsPart(step, isWrite: isWrite, gpa: gpa)
        }
        if !isEnded { try executeUncounted(step) }
    }

    /// A run whose instructions nobody counted.
    private func executeUncounted(_ step: Step) throws(ReplayError) {
        if step.exit.reason.isPlacedByRegisters, !backend.capability.countsInstructions { return try skip(step) }
        let outcome = try machine.run(step)
        report.totals.instructions &+= outcome.retired ?? 0
        guard HypervisorComparison.exitsAgree(step.exit.reason, outcome.exit.reason) else {
            let fields = ExitFields.compare(step.exit, outcome.exit)
            return try report(step, at: position, fields + comparison(step, outcome.state), outcome)
        }
        try compare(step, with: outcome.state, outcome)
    }

    /// Goes on where the step ended, which another backend found.
    private func skip(_ step: Step) throws(ReplayError) {
        guard let twin, !twin.isEnded, twin.gap == nil else {
            let reason = "a run ended without an exit, at a place that was not found"
            gap = reason
            return report.count(.unverifiable, because: reason)
        }
        try machine.follow(twin.machine, vcpu: step.vcpu)
        report.totals.notRun += 1
    }

    /// Holds the instructions against their answers that no run follows.
    private func settleAll() throws(ReplayError) {
        for id in machine.unfinished.keys.sorted() {
            let claims = machine.unfinished[id]?.claims ?? []
            switch try machine.finish(id) {
            case .done(let claims, let rip): try settle(claims, of: id, begunAt: rip)
            // The trace ends in its middle.
            case .asks: for _ in claims { report.count(.unverifiable, because: "the trace ends in an instruction") }
            case .differs(let field):
                if let claim = claims.first { try report(claim.step, at: claim.position, [field]) }
            }
        }
    }

    /// Compares the steps that showed registers as the finished instruction leaves them.
    private func settle(
        _ claims: [(step: Step, position: UInt64)], of id: UInt32, begunAt rip: UInt64
    ) throws(ReplayError) {
        guard !claims.isEmpty else { return }
        let state = try machine.finishedState(id)
        var lastLook = state
        lastLook[.rip] = rip
        for claim in claims where !isEnded {
            if state.isCountedDown, claim.step.state[.rip] == rip,
                GuestCode(machine: machine.machine).isRepeated(at: lastLook), try agrees(claim.step, lastLook)
            {
                try machine.goBack(id, to: rip)
                continue
            }
            if try !agrees(claim.step, state) {
                try report(claim.step, at: claim.position, comparison(claim.step, state))
            }
        }
    }

    private func compare(_ step: Step, with state: VCPUState, _ outcome: RunOutcome?) throws(ReplayError) {
        if try agrees(step, state) { return }
        if machine.unfinished[step.vcpu] != nil {
            // Perhaps it shows the registers after the instruction.
            machine.unfinished[step.vcpu]?.claims.append((step, position))
        } else {
            try report(step, at: position, comparison(step, state), outcome)
        }
    }

    /// Counts the step where its registers are those of the replay, but for flags that no manual defines.
    private func agrees(_ step: Step, _ state: VCPUState) throws(ReplayError) -> Bool {
        if HypervisorComparison.statesAgree(step.state, state, step.coverage) {
            report.count(.identical)
            return true
        }
        let undefined = try machine.vcpu(step.vcpu).undefinedFlags
        // KVM's emulator shows the flags of CMPS and SCAS once the last iteration is done.
        if let before = machine.repeated[step.vcpu], before.rip == step.state[.rip] {
            var state = state
            state[.rflags] = before.rflags
            if HypervisorComparison.statesAgree(step.state, state, step.coverage, but: undefined) {
                report.count(
                    explainedBy: GuestCode(machine: machine.machine).instruction(at: step.state, step: position),
                    because: "KVM shows the flags of a repeated instruction at its end")
                return true
            }
        }
        guard HypervisorComparison.statesAgree(step.state, state, step.coverage, but: undefined) else { return false }
        var place = state
        place[.rip] = try machine.vcpu(step.vcpu).undefinedFlagsRIP
        report.count(
            explainedBy: GuestCode(machine: machine.machine).instruction(at: place, step: position),
            because: "flags that the manual leaves undefined")
        try machine.adopt(flags: undefined, of: step)
        return true
    }

    private func comparison(_ step: Step, _ state: VCPUState) -> [ComparedField] {
        HypervisorComparison.differences(step.state, state, step.coverage)
    }

    private func report(
        _ step: Step, at position: UInt64, _ fields: [ComparedField], _ outcome: RunOutcome? = nil
    ) throws(ReplayError) {
        report.count(.divergent)
        if report.divergence == nil { report.divergence = try describe(step, outcome, at: position, fields: fields) }
        guard options.resynchronises else {
            isEnded = true
            return
        }
        machine.unfinished[step.vcpu] = nil
        try machine.adopt(step)
    }

    /// A further exit of an instruction that made one before.
    private func executeAsPart(_ step: Step, isWrite: Bool, gpa: GPA) throws(ReplayError) {
        let access: Protection = isWrite ? .write : .read
        guard case .memory(let exit) = step.exit.reason, exit.gpa == gpa, exit.access == access else {
            let asked = ExitReason.memory(MemoryExit(access: access, gpa: gpa))
            return try report(step, at: position, ExitFields.compare(step.exit, VCPUExit(reason: asked)))
        }
        if let event = step.event { machine.carriedEvents[step.vcpu] = event }
        try compare(step, with: machine.vcpu(step.vcpu).saveState(), nil)
    }
}

// MARK: - Keyframes

extension ReplayRun {
    private func execute(_ keyframe: Keyframe) throws(ReplayError) {
        let index = reader.keyframes.first { $0.stepCount == keyframe.stepCount }.map { Int($0.index) }
        // A trace of a client of KVM has no keyframe to begin at.
        if gap != nil, machine.hypervisorMSRs != nil { return }
        if gap != nil {
            try machine.load(keyframe, from: reader)
            position = keyframe.stepCount
            gap = nil
            settle(keyframe, index)
            return
        }
        guard keyframe.stepCount == position else { throw .keyframeExpected(step: position) }
        let comparison = try KeyframeComparison(machine, with: keyframe, previous: equalKeyframe, reader: reader)
        report.totals.pagesCompared += comparison.pagesCompared
        if comparison.isEqual {
            report.totals.keyframesEqual += 1
            settle(keyframe, index)
            return
        }
        report.totals.keyframesDifferent += 1
        if report.divergence == nil { report.divergence = describe(keyframe, comparison) }
        guard options.resynchronises else {
            isEnded = true
            return
        }
        try machine.load(keyframe, from: reader)
        settle(keyframe, index)
    }

    /// From here on trace and replay are equal again.
    private func settle(_ keyframe: Keyframe, _ index: Int?) {
        for ordinal in machine.objects.keys { _ = machine.takeTouchedPages(of: ordinal) }
        equalKeyframe = keyframe
        equalKeyframeIndex = index
        report.memoryEqualAtStep = keyframe.stepCount
        clockSkew = 0
    }

    private func describe(_ keyframe: Keyframe, _ comparison: KeyframeComparison) -> Divergence {
        let finding = locate(end: position, includesEnd: false)
        return Divergence(
            kind: comparison.memory.isEmpty ? .privateState : .memory, step: position, vcpu: nil,
            fields: comparison.fields, injected: nil, instructionAtExit: nil, instructionAtActualExit: nil,
            instructionsBefore: finding.before, wrongInstruction: finding.wrongInstruction,
            referenceAgreesWithReplay: finding.referenceAgrees, lastEvents: history.lines, memory: comparison.memory,
            memoryWasCompared: true, memoryEqualAtStep: report.memoryEqualAtStep)
    }
}

// MARK: - History

/// The last events of a trace, kept without copying those before.
struct EventHistory {
    private var events: [(position: UInt64, event: TraceEvent)] = []
    private var next = 0
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    mutating func append(_ event: TraceEvent, at position: UInt64) {
        if events.count < capacity {
            events.append((position, event))
        } else {
            events[next] = (position, event)
        }
        next = (next + 1) % capacity
    }

    /// Oldest first.
    var lines: [RecentEvent] {
        let ordered = events.count < capacity ? events[...] : events[next...] + events[..<next]
        return ordered.map { RecentEvent(step: $0.position, text: EventText.line($0.event)) }
    }
}
