// Steps of a recording from outside of a hypervisor: nobody counted instructions, KVM leaves some of them unfinished,
// and guests read times that the trace does not hold. Docs/determinism.md, "Traces of KVM".

internal import NVMM
internal import TraceFile

extension ReplayRun {
    /// Finishes the instruction that the VCPU stands at, then runs, or finds that the step ended with the same
    /// instruction.
    func executeAsHypervisor(_ step: Step) throws(ReplayError) {
        switch try machine.finish(step.vcpu, givesTime: twin?.machine.outputDependsOnTime == true) {
        case .done(let claims, let rip, let gaveTime):
            try settle(claims, of: step.vcpu, begunAt: rip, gaveTime: gaveTime)
        case .differs(let field): return try report(step, at: position, [field])
        case .asks(let isWrite, let gpa): return try executeAsPart(step, isWrite: isWrite, gpa: gpa)
        }
        if !isEnded { try executeUncounted(step) }
    }

    /// Where it is not known what in the guest depends on times: nothing of the step is compared.
    private func needsShadows() -> Bool {
        guard machine.needsShadows, !beginsAgain() else { return lacksShadows }
        gap = "the guest reads times that the trace does not hold"
        report.count(.unverifiable, because: gap)
        return true
    }

    /// Whether a difference may be due to times in a way that the shadows happened not to show.
    func needsMoreShadows() -> Bool { shadowCount > 0 && beginsAgain() }

    /// Ends the replay, so that it begins again with more shadows, where there is a larger number, memory for it, and
    /// nobody who would see the replay twice.
    private func beginsAgain() -> Bool {
        let next = Self.shadowCounts.first { $0 > shadowCount }
        let bytes = machine.objects.values.reduce(UInt64(0)) { $0 + UInt64($1.byteCount) }
        lacksShadows = observer == nil && next.map { UInt64($0 + 1) * bytes <= options.memoryBytesMax } == true
        return lacksShadows
    }

    /// A run whose instructions nobody counted.
    func executeUncounted(_ step: Step) throws(ReplayError) {
        if step.exit.reason.isPlacedByRegisters, !backend.capability.countsInstructions { return try skip(step) }
        let outcome = try machine.run(step)
        if needsShadows() { return }
        retired = outcome.retired ?? 0
        report.totals.instructions &+= retired
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
    func settleAll() throws(ReplayError) {
        for id in machine.unfinished.keys.sorted() {
            let claims = machine.unfinished[id]?.claims ?? []
            if let twin, !twin.isEnded { _ = try twin.machine.finish(id) }
            switch try machine.finish(id, givesTime: twin?.machine.outputDependsOnTime == true) {
            case .done(let claims, let rip, let gaveTime):
                try settle(claims, of: id, begunAt: rip, gaveTime: gaveTime)
            // The trace ends in its middle.
            case .asks: for _ in claims { report.count(.unverifiable, because: "the trace ends in an instruction") }
            case .differs(let field):
                if let claim = claims.first { try report(claim.step, at: claim.position, [field]) }
            }
        }
    }

    /// Compares the steps that showed registers as the finished instruction leaves them.
    private func settle(
        _ claims: [(step: Step, position: UInt64)], of id: UInt32, begunAt rip: UInt64, gaveTime: Bool
    ) throws(ReplayError) {
        // The registers showed nothing: the step was counted.
        if gaveTime, claims.isEmpty { report.recountAsExplained(by: try timePlace(id), because: Self.time) }
        guard !claims.isEmpty else { return }
        let state = try machine.finishedState(id)
        var lastLook = state
        lastLook[.rip] = rip
        for claim in claims where !isEnded {
            if state.isCountedDown, claim.step.state[.rip] == rip,
                GuestCode(machine: machine.machine).isRepeated(at: lastLook),
                try agrees(claim.step, lastLook, at: claim.position)
            {
                try machine.goBack(id, to: rip)
                continue
            }
            if try !agrees(claim.step, state, at: claim.position) {
                try report(claim.step, at: claim.position, comparison(claim.step, state))
            }
        }
    }

    private func compare(_ step: Step, with state: VCPUState, _ outcome: RunOutcome?) throws(ReplayError) {
        if try agrees(step, state, at: position) { return }
        if machine.unfinished[step.vcpu] != nil {
            // Perhaps it shows the registers after the instruction.
            machine.unfinished[step.vcpu]?.claims.append((step, position))
        } else {
            try report(step, at: position, comparison(step, state), outcome)
        }
    }

    /// Counts the step where its registers are those of the replay, but for flags that no manual defines.
    private func agrees(_ step: Step, _ state: VCPUState, at position: UInt64) throws(ReplayError) -> Bool {
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
        guard HypervisorComparison.statesAgree(step.state, state, step.coverage, but: undefined) else {
            return try agreesButForTime(step, state, undefined, at: position)
        }
        var place = state
        place[.rip] = try machine.vcpu(step.vcpu).undefinedFlagsRIP
        report.count(
            explainedBy: GuestCode(machine: machine.machine).instruction(at: place, step: position),
            because: "flags that the manual leaves undefined")
        try machine.adopt(flags: undefined, of: step)
        return true
    }

    /// Counts the step where its registers are those of the replay, but for what depends on a time that was read.
    private func agreesButForTime(
        _ step: Step, _ state: VCPUState, _ flags: UInt64, at position: UInt64
    ) throws(ReplayError) -> Bool {
        let vcpu = try knowing.vcpu(step.vcpu)
        guard let logged = knowing.shadows?.replacing(state, by: step.state, vcpu: vcpu),
            HypervisorComparison.statesAgree(step.state, logged, step.coverage, but: flags)
        else { return false }
        report.count(explainedBy: try timePlace(step.vcpu), because: Self.time)
        let delay = knowing.shadows?.delay(state, to: logged, vcpu: vcpu) ?? 0
        timedSteps[position] = TimedStep(retired: retired, delay: delay)
        try machine.adopt(logged, step.vcpu, machine === knowing ? delay : 0)
        return true
    }

    /// Where a VCPU read the time last.
    private func timePlace(_ id: UInt32) throws(ReplayError) -> InstructionPlace {
        let vcpu = try knowing.vcpu(id)
        var place = vcpu.saveState()
        place[.rip] = vcpu.timestampReadRIP
        return GuestCode(machine: machine.machine).instruction(at: place, step: position)
    }

    /// An input that no trace of a hypervisor holds.
    private static let time = "depends on the time-stamp counter, which guests read without an exit"

    private func comparison(_ step: Step, _ state: VCPUState) -> [ComparedField] {
        HypervisorComparison.differences(step.state, state, step.coverage)
    }

    private func report(
        _ step: Step, at position: UInt64, _ fields: [ComparedField], _ outcome: RunOutcome? = nil
    ) throws(ReplayError) {
        if try accepts(fields, of: step, at: position) { return try goOn(after: step) }
        if needsMoreShadows() { return }
        if knowing.shadows?.hasParted == true {
            let reason = "the time-stamp counter decided which way the guest went, and where it wrote"
            gap = reason
            return report.count(.unverifiable, because: reason)
        }
        report.count(.divergent)
        if report.divergence == nil { report.divergence = try describe(step, outcome, at: position, fields: fields) }
        guard options.resynchronises else {
            isEnded = true
            return
        }
        try goOn(after: step)
    }

    /// From the recorded registers.
    private func goOn(after step: Step) throws(ReplayError) {
        // They may be those before an instruction whose answers come.
        if machine.unfinished[step.vcpu]?.rip != step.state[.rip] { machine.unfinished[step.vcpu] = nil }
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
