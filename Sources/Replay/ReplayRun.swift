// One pass over a trace: executes each event, compares each step and keyframe, and keeps the report.

internal import NVMM
internal import TraceFile

/// State of a replay while it runs.
final class ReplayRun {
    private let reader: TraceReader
    let backend: any Backend
    let reference: (any Backend)?
    let options: ReplayOptions
    let machine: ReplayMachine
    private let startKeyframe: Int?
    var report = ReplayReport()

    /// Steps before the present place. Keyframes of a damaged trace may set it to any number: it wraps.
    var position: UInt64 = 0
    /// Why the next steps cannot be executed, until a keyframe.
    var gap: String?
    /// The last keyframe at which everything was equal, and its number in the trace.
    private var equalKeyframe: Keyframe?
    private var equalKeyframeIndex: Int?
    /// What the replay's clock lacks since the recorded state was loaded; a keyframe sets the clock itself.
    private var clockSkew: UInt64 = 0
    private var history: EventHistory
    var isEnded = false
    let observer: (any ReplayObserver)?
    /// The same replay on a backend that counts instructions, for one that does not: it finds where runs ended.
    var twin: ReplayRun?
    /// The machine that counts instructions, and whose shadows tell what depends on times.
    var knowing: ReplayMachine { twin?.machine ?? machine }
    var timedSteps: [UInt64: TimedStep] = [:]
    /// In the run that was executed last.
    var retired: UInt64 = 0
    /// Of the replay, when it was told last how far it is.
    private var toldInstructions: UInt64 = 0
    /// Ends the replay, so that it begins again with more shadows.
    var lacksShadows = false
    let shadowCount: Int
    /// How many shadows stand beside a replay, at first and where those leave a difference open.
    static let shadowCounts = [0, 2, 6, 16]

    init(
        _ reader: TraceReader, backend: any Backend, reference: (any Backend)?, options: ReplayOptions,
        observer: (any ReplayObserver)? = nil, shadowCount: Int = 0
    ) throws(ReplayError) {
        self.reader = reader
        self.backend = backend
        self.reference = reference
        self.options = options
        report.knownDifferences = options.known.map { KnownDifferenceUse(rule: $0, stepCount: 0, firstStep: nil) }
        self.observer = observer
        self.shadowCount = shadowCount
        machine = try ReplayMachine(
            on: backend, for: reader.header, memoryBytesMax: options.memoryBytesMax)
        history = EventHistory(capacity: options.historyCount)
        startKeyframe =
            options.from == 0 ? nil : reader.keyframes.last { $0.stepCount <= options.from }.map { Int($0.index) }
        if !backend.capability.countsInstructions, let reference, reference.capability.countsInstructions {
            twin = try ReplayRun(
                reader, backend: reference, reference: nil, options: options, shadowCount: shadowCount)
        } else if shadowCount == 0 {
            machine.awaitsShadows = machine.findsPlacesByRegisters
        } else {
            machine.shadows = try TimestampShadows(count: shadowCount) { () throws(ReplayError) in
                try ReplayMachine(on: backend, for: reader.header, memoryBytesMax: options.memoryBytesMax)
            }
        }
    }

    /// - Returns: nil where the guest reads times that the trace does not hold, and more shadows beside the replay
    ///   could tell whether they explain a difference.
    ///
    /// - Parameters:
    ///   - endKeyframe: steps before the keyframe with whose comparison the replay ends; nil: none.
    ///   - goesOn: called every few thousand steps, after long ones sooner, and at the end; false ends the replay.
    func run(
        endKeyframe: UInt64? = nil, goesOn: (ReplayProgress) -> Bool
    ) throws(ReplayError) -> ReplayReport? {
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
            if lacksShadows || twin?.lacksShadows == true { return nil }
            if let observer, report.divergence == nil, gap == nil, !isEnded {
                try observer.didExecute(event, on: machine)
            }
            if case .step = event, isDueToTell, !goesOn(here) { isEnded = true }
            if case .keyframe = event, let endKeyframe, position >= endKeyframe { isEnded = true }
        }
        if !isEnded { try settleAll() }
        if lacksShadows { return nil }
        if position == 0, options.from == 0, report.divergence == nil { throw .noSteps }
        // A divergence on the way from the keyframe is what the replay has to say, though it lies before the range.
        guard report.divergence != nil || position > options.from else {
            throw .noSuchStep(options.from)
        }
        report.endStep = position
        _ = goesOn(here)
        return report
    }

    /// Every few thousand steps, or what takes half a second of interpreting.
    private var isDueToTell: Bool {
        guard (position &- report.firstStep) % 4096 == 0 || report.totals.instructions &- toldInstructions >= 50_000_000
        else { return false }
        toldInstructions = report.totals.instructions
        return true
    }

    private var here: ReplayProgress { ReplayProgress(stepsDone: position &- report.firstStep, step: position) }

    private func execute(_ event: TraceEvent) throws(ReplayError) {
        machine.step = position
        // What depends on times is the twin's knowledge, which a keyframe takes away.
        if case .keyframe(let keyframe) = event {
            try execute(keyframe)
            if let twin, !twin.isEnded { try twin.execute(event) }
            return
        }
        if let twin, !twin.isEnded { try twin.execute(event) }
        if case .step = event, let to = options.to, position >= to {
            isEnded = true
            return
        }
        history.append(event, at: position)
        switch event {
        case .step(let step):
            try execute(step)
            position &+= 1
        case .loss(let loss): gap = "events lost: " + loss.reason
        case .machine(let change):
            if gap == nil { try machine.apply(change) }
        case .memoryWrite(let write):
            if write.isRawStore { report.rawStoreCount += 1 }
            if gap == nil { try machine.apply(write) }
        // What the replay's own guest does: the registers after the step and the pages at keyframes tell of it.
        case .keyframe, .call, .guestWrite: break
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
        let fields = outcome.fields(against: step)
        if try accepts(fields, of: step, at: position) { return try adopt(step) }
        report.count(.divergent)
        if report.divergence == nil { report.divergence = try describe(step, outcome, at: position, fields: fields) }
        guard options.resynchronises else {
            isEnded = true
            return
        }
        try adopt(step)
    }

    private func adopt(_ step: Step) throws(ReplayError) {
        try machine.adopt(step)
        clockSkew = step.clock &- machine.machine.clock
    }

    /// - Parameter outcome: nil where no run of the replay ended with this step.
    func describe(
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
            referenceAgreesWithReplay: finding.referenceAgrees, lastEvents: lastEvents, memory: finding.memory ?? [],
            memoryWasCompared: finding.memory != nil, memoryEqualAtStep: report.memoryEqualAtStep)
    }

    /// The cause as far as it can be found. What goes wrong on the way must not hide the divergence itself.
    private func locate(end: UInt64, includesEnd: Bool) -> FaultLocator.Finding {
        guard options.locatesCause else { return FaultLocator.Finding() }
        return (try? locator(backend, reference, options).locate(end: end, includesEnd: includesEnd))
            ?? FaultLocator.Finding()
    }

    func locator(
        _ primary: any Backend, _ reference: (any Backend)?, _ options: ReplayOptions
    ) -> FaultLocator {
        FaultLocator(
            reader: reader, primary: primary, reference: reference, options: options,
            startKeyframe: equalKeyframeIndex ?? startKeyframe, timedSteps: timedSteps)
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
        let comparison = try KeyframeComparison(
            machine, with: keyframe, previous: equalKeyframe, reader: reader, knowing: knowing)
        report.totals.pagesCompared += comparison.pagesCompared
        report.totals.timedBytes += comparison.timedBytes
        if comparison.isEqual {
            report.totals.keyframesEqual += 1
            for (object, page, content) in comparison.timedPages {
                try machine.setPageEverywhere(page, of: object, to: content)
            }
            settle(keyframe, index)
            return
        }
        if needsMoreShadows() { return }
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
            referenceAgreesWithReplay: finding.referenceAgrees, lastEvents: lastEvents, memory: comparison.memory,
            memoryWasCompared: true, memoryEqualAtStep: report.memoryEqualAtStep)
    }
}

// MARK: - History

extension ReplayRun {
    /// The last events of the trace, those before the keyframe where the replay began included. What cannot be read of
    /// those must not hide a divergence.
    private var lastEvents: [RecentEvent] {
        guard let startKeyframe, !history.isFull,
            let cursor = try? reader.cursor(fromKeyframe: startKeyframe == 0 ? nil : startKeyframe - 1)
        else { return history.lines }
        var before = EventHistory(capacity: options.historyCount)
        var position = cursor.nextStepIndex
        while let event = try? cursor.next() {
            if case .keyframe(let keyframe) = event, keyframe.stepCount >= report.firstStep { break }
            before.append(event, at: position)
            position = cursor.nextStepIndex
        }
        return (before.lines + history.lines).suffix(options.historyCount)
    }
}

/// The last events of a trace, kept without copying those before.
struct EventHistory {
    private var events: [(position: UInt64, event: TraceEvent)] = []
    private var next = 0
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    var isFull: Bool { events.count == capacity }

    mutating func append(_ event: TraceEvent, at position: UInt64) {
        switch event {
        // What the guest did comes out by replaying; a keyframe is no event.
        case .keyframe, .guestWrite: return
        case .step, .loss, .machine, .memoryWrite, .call: break
        }
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
