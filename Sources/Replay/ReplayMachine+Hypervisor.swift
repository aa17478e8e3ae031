// Runs of a trace that was recorded above KVM: instructions are finished at the entry after their exit, MSRs are the
// hypervisor's, and where a run ended without an exit is found by its registers. Docs/determinism.md, "Traces of KVM".

internal import NVMM
internal import TraceFile

extension ReplayMachine {
    /// As ``run(_:)``, of a run whose instructions nobody counted.
    func runUncounted(_ step: Step) throws(ReplayError) -> RunOutcome {
        let vcpu = try vcpu(step.vcpu)
        let entry = try entry(of: step)
        // Where instructions are finished a step began with that.
        if hypervisorMSRs == nil { try shadows?.join(self, vcpu: step.vcpu) }
        if step.exit.reason.isPlacedByRegisters { return try search(entry, vcpu, of: step) }
        let outcome = try runToExit(entry, vcpu)
        shadows?.follow { (shadow) throws(ReplayError) in
            shadow.uncountedInstructionsMax = (outcome.retired ?? 0) &* 2 &+ 65536
            let other = try shadow.runToExit(try shadow.entry(of: step), try shadow.vcpu(step.vcpu))
            return other.exit.reason == outcome.exit.reason && other.state[.rip] == outcome.state[.rip]
        }
        return outcome
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
        guard hypervisorMSRs != nil else {
            let outcome = try run(step)
            try adoptTimes(of: step, outcome.state)
            return outcome
        }
        guard try finishAgain(step.vcpu) else {
            if let event = step.event { carriedEvents[step.vcpu] = event }
            return nil
        }
        let outcome = try runAsHypervisor(step)
        try adoptTimes(of: step, outcome.state)
        return outcome
    }

    private func finishAgain(_ id: UInt32) throws(ReplayError) -> Bool {
        guard try finish(id, givesTime: !timedSteps.isEmpty).isDone else { return false }
        if let waiting = waitingTimes.removeValue(forKey: id) { try adopt(waiting.registers, id, waiting.delay) }
        return true
    }

    /// Goes on with the recorded registers, at once or when the instruction is finished.
    private func adoptTimes(of step: Step, _ state: VCPUState) throws(ReplayError) {
        guard let timed = timedSteps[self.step] else { return }
        if step.state[.rip] == state[.rip] {
            try adopt(step.state, step.vcpu, timed.delay)
        } else {
            waitingTimes[step.vcpu] = (step.state, timed.delay)
        }
    }

    /// ``prepare(_:)``, for a run in pieces.
    ///
    /// - Returns: false where no run belongs to the step.
    func enter(_ step: Step) throws(ReplayError) -> Bool {
        guard hypervisorMSRs != nil else {
            try prepare(step)
            return true
        }
        guard try finishAgain(step.vcpu) else { return false }
        try prepare(entry(of: step))
        return true
    }

    /// One piece of a run. Where the hypervisor goes on by itself, so does this.
    func runPiece(_ id: UInt32, of step: Step, budget: UInt64?) throws(ReplayError) -> RunOutcome {
        var outcome = try run(id, budget: budget)
        if hypervisorMSRs != nil, answerMSR(outcome.exit.reason, of: step, try vcpu(id)) { outcome.exit.reason = .none }
        return outcome
    }

    /// Gives a VCPU general registers, but for RIP, which it goes on with, and moves its time-stamp counter on.
    func adopt(_ registers: VCPUState, _ id: UInt32, _ delay: UInt64) throws(ReplayError) {
        let vcpu = try vcpu(id)
        changeRegisters(vcpu) { state in
            let rip = state[.rip]
            state.gprs = registers.gprs
            state[.rip] = rip
        }
        guard delay != 0 else { return }
        let page = vcpu.commPage
        if !page.stateCommit.contains(.msrs) { page.state.msrs = vcpu.saveState().msrs }
        page.state[.tsc] = vcpu.saveState()[.tsc] &+ delay
        vcpu.setState(.msrs)
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
        shadows?.follow { (shadow) throws(ReplayError) in
            try shadow.goBack(id, to: rip)
            return true
        }
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
        let budget = uncountedInstructionsMax
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
    private func search(_ step: Step, _ vcpu: any VCPU, of original: Step) throws(ReplayError) -> RunOutcome {
        var withoutEvent = step
        withoutEvent.event = nil
        try prepare(withoutEvent)
        shadows?.follow { (shadow) throws(ReplayError) in
            withoutEvent = try shadow.entry(of: original)
            withoutEvent.event = nil
            try shadow.prepare(withoutEvent)
            return true
        }
        var retired: UInt64 = 0
        var outcome = try runBeside(step.vcpu, budget: 0)
        outcome.retired = 0
        // The guest was not entered, or not yet interrupted. Registers alone do not tell: a handler may have come and
        // gone.
        let mayWait = step.event == nil || step.state.interrupt.contains(.eventPending)
        if mayWait, isPlace(outcome.state, retired, of: step, vcpu) {
            if let event = step.event { carriedEvents[step.vcpu] = event }
            return placed(outcome, step)
        }
        // The answers of its accesses may have ended one.
        if mayWait, let repeated = repeated[step.vcpu],
            let last = try lastLook(outcome, at: repeated.rip, of: step, vcpu)
        {
            if let event = step.event { carriedEvents[step.vcpu] = event }
            return last
        }
        if let event = step.event {
            try arm(event, vcpu.id)
            shadows?.follow { (shadow) throws(ReplayError) in
                try shadow.arm(event, vcpu.id)
                return true
            }
            outcome = try runBeside(step.vcpu, budget: 0)
            outcome.retired = 0
            if isPlace(outcome.state, retired, of: step, vcpu) { return placed(outcome, step) }
        }
        while retired < Self.searchedInstructionsMax {
            let before = outcome.state
            outcome = try runBeside(step.vcpu, budget: 1)
            retired &+= outcome.retired ?? 0
            outcome.retired = retired
            if isPlace(outcome.state, retired, of: step, vcpu) { return placed(outcome, step) }
            if let last = try lastLook(outcome, at: before[.rip], of: step, vcpu) { return last }
            guard outcome.exit.reason == .none || goesOnBeside(outcome.exit.reason, of: step, vcpu) else {
                return outcome
            }
            if awaitsShadows, vcpu.timestampReads > 0 { break }
        }
        return outcome
    }

    /// Goes back to a repeated instruction that is just done, where the recorded run ended at its last look.
    private func lastLook(
        _ outcome: RunOutcome, at rip: UInt64, of step: Step, _ vcpu: any VCPU
    ) throws(ReplayError) -> RunOutcome? {
        guard rip == step.state[.rip], outcome.state.isCountedDown else { return nil }
        var last = outcome
        last.state[.rip] = rip
        let code = GuestCode(machine: machine)
        let length = code.instruction(at: last.state, step: self.step).bytes.count
        guard code.isRepeated(at: last.state), rip &+ UInt64(length) == outcome.state[.rip],
            isPlace(last.state, outcome.retired ?? 0, of: step, vcpu)
        else { return nil }
        try goBack(step.vcpu, to: rip)
        return placed(last, step)
    }

    /// One piece of a search, and the same piece with other times.
    private func runBeside(_ id: UInt32, budget: UInt64) throws(ReplayError) -> RunOutcome {
        let outcome = try run(id, budget: budget)
        shadows?.follow { (shadow, isLed) throws(ReplayError) in
            let other = try shadow.run(id, budget: budget)
            guard other.exit.reason == outcome.exit.reason else { return false }
            if other.state[.rip] == outcome.state[.rip] { return true }
            if isLed { shadow.changeRegisters(try shadow.vcpu(id)) { $0[.rip] = outcome.state[.rip] } }
            return isLed
        }
        return outcome
    }

    private func goesOnBeside(_ reason: ExitReason, of step: Step, _ vcpu: any VCPU) -> Bool {
        shadows?.follow { (shadow) throws(ReplayError) in
            shadow.goesOn(reason, of: step, try shadow.vcpu(step.vcpu))
        }
        return goesOn(reason, of: step, vcpu)
    }

    private func arm(_ event: VCPUEvent, _ id: UInt32) throws(ReplayError) {
        let page = try vcpu(id).commPage
        page.event = event
        page.eventCommit = true
    }

    /// Whether the registers are those of `step`, but for what no manual defines and no trace holds.
    private func isPlace(_ state: VCPUState, _ retired: UInt64, of step: Step, _ vcpu: any VCPU) -> Bool {
        guard state[.rip] == step.state[.rip] else { return false }
        if let timed = timedSteps[self.step] { return retired == timed.retired }
        let undefined = vcpu.undefinedFlags
        if HypervisorComparison.statesAgree(step.state, state, step.coverage, but: undefined) { return true }
        guard let logged = shadows?.replacing(state, by: step.state, vcpu: vcpu) else { return false }
        return HypervisorComparison.statesAgree(step.state, logged, step.coverage, but: undefined)
    }

    /// Whether a guest read a time, with nothing beside it that tells what depends on that.
    var needsShadows: Bool { awaitsShadows && vcpus.values.contains { $0.timestampReads > 0 } }

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
    private static let searchedInstructionsMax: UInt64 = 1 << 24
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
