// Runs of a trace that was recorded above KVM: instructions are finished at the entry after their exit, MSRs are the
// hypervisor's, and where a run ended without an exit is found by its registers. Docs/determinism.md, "Traces of KVM".

internal import NVMM
internal import TraceFile

extension ReplayMachine {
    /// As ``run(_:)``, of a run whose instructions nobody counted.
    func runUncounted(_ step: Step) throws(ReplayError) -> RunOutcome {
        let vcpu = try vcpu(step.vcpu)
        let entry = try entry(of: step)
        return step.exit.reason.isPlacedByRegisters ? try search(entry, vcpu) : try runToExit(entry, vcpu)
    }

    /// As ``run(_:)``, once the instruction at which the VCPU stands is finished: ``finish(_:)``.
    func runAsHypervisor(_ step: Step) throws(ReplayError) -> RunOutcome {
        var outcome = try runUncounted(step)
        switch outcome.exit.reason {
        case .io, .memory, .readMSR, .writeMSR:
            if repeated[step.vcpu]?.rip != outcome.state[.rip] || outcome.retired != 0 {
                repeated[step.vcpu] = (outcome.state[.rip], outcome.state[.rflags])
            }
            unfinished[step.vcpu] = UnfinishedInstruction(
                exit: outcome.exit.reason, rip: outcome.state[.rip])
        default: break
        }
        outcome.cached = step.cached
        return outcome
    }

    /// A step as its run is to consume it: with what finishing an instruction changed and the client did not overwrite,
    /// and the event that waits.
    private func entry(of step: Step) throws(ReplayError) -> Step {
        let page = try vcpu(step.vcpu).commPage
        var entry = step
        entry.commit.formUnion(page.stateCommit)
        entry.committed = page.state
        entry.committed.copy(step.commit, from: step.committed)
        entry.event = step.event ?? carriedEvents.removeValue(forKey: step.vcpu)
        return entry
    }

    /// Finishes and runs, or finds that the step ended with the same instruction.
    ///
    /// - Returns: nil where no run belongs to the step.
    func perform(_ step: Step) throws(ReplayError) -> RunOutcome? {
        guard hypervisorMSRs != nil else { return try run(step) }
        guard case .done = try finish(step.vcpu) else {
            if let event = step.event { carriedEvents[step.vcpu] = event }
            return nil
        }
        return try runAsHypervisor(step)
    }

    /// ``prepare(_:)``, for a run in pieces.
    ///
    /// - Returns: false where no run belongs to the step.
    func enter(_ step: Step) throws(ReplayError) -> Bool {
        guard hypervisorMSRs != nil else {
            try prepare(step)
            return true
        }
        guard case .done = try finish(step.vcpu) else { return false }
        try prepare(entry(of: step))
        return true
    }

    /// One piece of a run. Where the hypervisor goes on by itself, so does this.
    func runPiece(_ id: UInt32, of step: Step, budget: UInt64?) throws(ReplayError) -> RunOutcome {
        var outcome = try run(id, budget: budget)
        if hypervisorMSRs != nil, answerMSR(outcome.exit.reason, of: step, try vcpu(id)) { outcome.exit.reason = .none }
        return outcome
    }

    /// Gives a VCPU the recorded values of flags, which it goes on with.
    func adopt(flags: UInt64, of step: Step) throws(ReplayError) {
        changeRegisters(try vcpu(step.vcpu)) { state in
            state[.rflags] = state[.rflags] & ~flags | step.state[.rflags] & flags
        }
    }

    /// After the last iteration of a repeated instruction KVM's emulator comes once more and finds nothing to do: an
    /// event may enter the guest before that.
    func goBack(_ id: UInt32, to rip: UInt64) throws(ReplayError) {
        changeRegisters(try vcpu(id)) { state in state[.rip] = rip }
    }

    /// Changes general registers for the next run, those that wait for it already among them.
    private func changeRegisters(_ vcpu: any VCPU, _ change: (inout VCPUState) -> Void) {
        let page = vcpu.commPage
        if !page.stateCommit.contains(.gprs) { page.state.gprs = vcpu.saveState().gprs }
        change(&page.state)
        vcpu.setState(.gprs)
    }

    private func runToExit(_ step: Step, _ vcpu: any VCPU) throws(ReplayError) -> RunOutcome {
        try prepare(step)
        let budget = Self.uncountedInstructionsMax
        var retired: UInt64 = 0
        // A backend that does not count ends runs by time, and its guest may never exit either.
        let begin = machine.clock
        while true {
            var outcome = try run(step.vcpu, budget: budget)
            let isOver = outcome.retired == nil && outcome.exit.reason == .none
            retired &+= outcome.retired ?? 0
            outcome.retired = retired
            guard retired < budget, !isOver || machine.clock &- begin < Self.uncountedTicksMax,
                isOver || goesOn(outcome.exit.reason, of: step, vcpu)
            else { return outcome }
        }
    }

    /// Instruction by instruction, to the first place where the registers are the recorded ones.
    private func search(_ step: Step, _ vcpu: any VCPU) throws(ReplayError) -> RunOutcome {
        var withoutEvent = step
        withoutEvent.event = nil
        try prepare(withoutEvent)
        var outcome = try run(step.vcpu, budget: 0)
        outcome.retired = 0
        // The guest was not entered, or not yet interrupted. Registers alone do not tell: a handler may have come and
        // gone.
        let mayWait = step.event == nil || step.state.interrupt.contains(.eventPending)
        if mayWait, outcome.isPlace(of: step, but: vcpu.undefinedFlags) {
            if let event = step.event { carriedEvents[step.vcpu] = event }
            return placed(outcome, step)
        }
        if let event = step.event {
            vcpu.commPage.event = event
            vcpu.commPage.eventCommit = true
            outcome = try run(step.vcpu, budget: 0)
            outcome.retired = 0
            if outcome.isPlace(of: step, but: vcpu.undefinedFlags) { return placed(outcome, step) }
        }
        var retired: UInt64 = 0
        while retired < Self.searchedInstructionsMax {
            let before = outcome.state
            outcome = try run(step.vcpu, budget: 1)
            retired &+= outcome.retired ?? 0
            outcome.retired = retired
            if outcome.isPlace(of: step, but: vcpu.undefinedFlags) { return placed(outcome, step) }
            if before[.rip] == step.state[.rip], outcome.state.isCountedDown {
                var lastLook = outcome
                lastLook.state[.rip] = before[.rip]
                if lastLook.isPlace(of: step, but: vcpu.undefinedFlags),
                    GuestCode(machine: machine).isRepeated(at: before)
                {
                    try goBack(step.vcpu, to: before[.rip])
                    return placed(lastLook, step)
                }
            }
            guard outcome.exit.reason == .none || goesOn(outcome.exit.reason, of: step, vcpu) else { return outcome }
        }
        return outcome
    }

    private func placed(_ outcome: RunOutcome, _ step: Step) -> RunOutcome {
        var outcome = outcome
        outcome.exit.reason = step.exit.reason
        return outcome
    }

    /// Whether the recorded run went on after such an exit.
    private func goesOn(_ reason: ExitReason, of step: Step, _ vcpu: any VCPU) -> Bool {
        // Some KVMs look at windows later than they open, or at the next exit.
        if reason == .interruptReady || reason == .nmiReady { return reason != step.exit.reason }
        return answerMSR(reason, of: step, vcpu)
    }

    /// Does what the hypervisor does without an exit.
    ///
    /// - Returns: false where the exit is one that it does not swallow.
    private func answerMSR(_ reason: ExitReason, of step: Step, _ vcpu: any VCPU) -> Bool {
        guard hypervisorMSRs != nil else { return false }
        switch reason {
        case .readMSR(let exit):
            if case .readMSR = step.exit.reason { return false }
            guard let value = hypervisorMSRs?[exit.msr] else { return refuseMSR(vcpu) }
            vcpu.commPage.state.completeRDMSR(value)
            vcpu.commPage.state[.rip] = exit.npc
        case .writeMSR(let exit):
            if case .writeMSR = step.exit.reason { return false }
            guard hypervisorMSRs?[exit.msr] != nil else { return refuseMSR(vcpu) }
            hypervisorMSRs?[exit.msr] = exit.value
            vcpu.commPage.state[.rip] = exit.npc
        default: return false
        }
        vcpu.setState(.gprs)
        return true
    }

    /// One that it does not know.
    private func refuseMSR(_ vcpu: any VCPU) -> Bool {
        vcpu.commPage.event = VCPUEvent(kind: .exception, vector: 13)
        vcpu.inject()
        return true
    }

    /// Where a guest that went another way is given up.
    private static let searchedInstructionsMax: UInt64 = 1 << 26
    /// Ticks of a clock that follows the host's: a minute.
    private static let uncountedTicksMax: UInt64 = 60_000_000_000
}

extension Step {
    /// Whether its end is to be found by its registers, or by its exit, but not by a count.
    ///
    /// - Parameter isUncounted: of the recording.
    func isFoundByRegisters(_ isUncounted: Bool) -> Bool {
        isUncounted && !failed && kind == .entered && coverage.contains(.gprs)
    }
}

extension ExitReason {
    /// A run that the host ended: an interrupt window too opens between any two instructions.
    var isPlacedByRegisters: Bool { isAsynchronous || self == .interruptReady || self == .nmiReady }
}

extension VCPUState {
    /// Whether no iteration of a repeated instruction is left.
    var isCountedDown: Bool { self[.rcx] & 0xFFFF == 0 }

    /// The value in EDX:EAX.
    mutating func completeRDMSR(_ value: UInt64) {
        self[.rax] = value & 0xFFFF_FFFF
        self[.rdx] = value >> 32
    }
}

extension RunOutcome {
    /// Whether the registers are those of `step`, but for `flags`.
    func isPlace(of step: Step, but flags: UInt64) -> Bool {
        state[.rip] == step.state[.rip]
            && HypervisorComparison.statesAgree(step.state, state, step.coverage, but: flags)
    }
}
