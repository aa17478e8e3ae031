// The PC's main loop: who runs, what is injected before, what an exit asks for. QEMU's
// `target/i386/nvmm` is the model.

import Assists
import NVMM

extension PC {
    /// Runs the PC's VCPUs in turn until the guest ends, a limit is met or `isCancelled` says so. May be called again
    /// after ``PCOutcome/limitReached`` and ``PCOutcome/cancelled``.
    ///
    /// - Parameter isCancelled: asked once per slice.
    /// - Throws: ``PCError/vcpu(_:)`` or ``PCError/machine(_:)`` where a call of the interface failed.
    public func run(limits: PCLimits = PCLimits(), isCancelled: () -> Bool = { false }) throws(PCError) -> PCOutcome {
        var advances = 0
        while true {
            if let ending { return ending }
            if isReached(limits) { return .limitReached }
            if isCancelled() { return .cancelled }
            advanceDevices()
            if let processor = takeNextProcessor() {
                advances = 0
                try runSlice(processor, limits: limits)
                continue
            }
            // All wait. Whatever is not awake after this many timer interrupts has no handler for them.
            guard advances < 100_000, processors.contains(where: { $0.isHalted && $0.interruptsAreOn }),
                let deadline = nextDeadline()
            else { return .haltedForever }
            advances += 1
            let now = machine.clock
            machine.advanceClock(by: deadline > now ? deadline - now : 1)
        }
    }

    private func isReached(_ limits: PCLimits) -> Bool {
        if let bound = limits.steps, steps >= bound { return true }
        if let bound = limits.instructions, instructions >= bound { return true }
        return false
    }

    /// The next VCPU in turn that can run; wakes it where it was halted.
    private func takeNextProcessor() -> Processor? {
        for offset in processors.indices {
            let index = (nextProcessor + offset) % processors.count
            let processor = processors[index]
            guard canRun(processor) else { continue }
            processor.isHalted = false
            nextProcessor = (index + 1) % processors.count
            return processor
        }
        return nil
    }

    private func canRun(_ processor: Processor) -> Bool {
        if processor.waitsForStartUp { return false }
        return !processor.isHalted || processor.apic.hasNMI
            || (processor.interruptsAreOn && hasInterrupt(processor))
    }

    /// Nobody waits for the turn of a VCPU while no other can run. It ends all the same, for who asks to cancel.
    private static let instructionsAlone: UInt64 = 10_000_000

    private func runSlice(_ processor: Processor, limits: PCLimits) throws(PCError) {
        var used: UInt64 = 0
        let shared = nextSliceLength()
        while !processor.isHalted, !processor.waitsForStartUp, ending == nil, !isReached(limits) {
            let isAlone = !processors.contains { $0 !== processor && canRun($0) }
            let length = isAlone ? max(shared, Self.instructionsAlone) : shared
            guard used < length else { return }
            let result: RunResult
            let begin = machine.clock
            do {
                try prepareEntry(processor)
                result = try processor.vcpu.run(budget: budget(left: length - used, limits: limits))
            } catch { throw .vcpu(error) }
            steps += 1
            count(result.exit)
            // Who does not count is measured by the clock.
            let retired = result.retired ?? (machine.clock &- begin)
            instructions &+= result.retired ?? 0
            // An instruction that exits does not retire; here it counts, so that a slice always ends.
            used += retired &+ 1
            if result.kind == .entered {
                processor.exitState = result.exit.state
                // The guest may have moved CR8, which is the APIC's task priority.
                if UInt64(processor.apic.taskPriority >> 4) != result.exit.state.cr8 {
                    processor.apic.taskPriority = UInt8(result.exit.state.cr8 & 0xF) << 4
                }
            }
            advanceDevices()
            try handle(result.exit, of: processor)
            if let error = memory.failure { throw .machine(error) }
            if let error = failure { throw .vcpu(error) }
        }
    }

    /// A loop whose length divides the slice would always be left at the same instruction: SeaBIOS's wait for the
    /// other processors, with the lock held that they need. Slices therefore differ, in a fixed sequence.
    private func nextSliceLength() -> UInt64 {
        slices &+= 1
        return sliceInstructions &+ slices % 17
    }

    /// At most the rest of the slice and of the limit, and no further than the next timer interrupt.
    private func budget(left: UInt64, limits: PCLimits) -> UInt64 {
        var budget = left
        if let bound = limits.instructions { budget = min(budget, bound - instructions) }
        if let deadline = nextDeadline() {
            let now = machine.clock
            budget = min(budget, deadline > now ? deadline - now : 1)
        }
        return max(budget, 1)
    }

    // MARK: - Before a run

    /// Commits the task priority and injects what can be taken; asks for an exit at the next chance otherwise.
    private func prepareEntry(_ processor: Processor) throws(VCPUError) {
        let vcpu = processor.vcpu
        let priority = UInt64(processor.apic.taskPriority >> 4)
        if priority != processor.exitState.cr8 {
            try vcpu.getState(.crs)
            vcpu.commPage.state[.cr8] = priority
            vcpu.setState(.crs)
            processor.exitState.cr8 = priority
        }
        if let exception = processor.owedException, !processor.exitState.interrupt.contains(.eventPending) {
            processor.owedException = nil
            return inject(exception, into: processor)
        }
        if processor.apic.hasNMI, !processor.exitState.interrupt.contains(.nmiWindowExiting),
            !processor.exitState.interrupt.contains(.eventPending)
        {
            processor.apic.takeNMI()
            return inject(VCPUEvent(kind: .interrupt, vector: 2), into: processor)
        }
        guard hasInterrupt(processor), !processor.exitState.interrupt.contains(.interruptWindowExiting) else { return }
        guard processor.canTakeInterrupt else {
            try vcpu.getState(.interrupt)
            vcpu.commPage.state.interrupt.insert(.interruptWindowExiting)
            vcpu.setState(.interrupt)
            return
        }
        let vector = acknowledgeInterrupt(processor)
        inject(VCPUEvent(kind: .interrupt, vector: vector), into: processor)
    }

    private func inject(_ event: VCPUEvent, into processor: Processor) {
        processor.vcpu.commPage.event = event
        processor.vcpu.inject()
    }

    // MARK: - After a run

    private func handle(_ exit: VCPUExit, of processor: Processor) throws(PCError) {
        let id = processor.vcpu.id
        switch exit.reason {
        case .none, .stopped, .interruptReady, .nmiReady, .tprChanged: break
        case .halted: processor.isHalted = true
        case .io(let io):
            do { try assistIO(processor.vcpu, machine, exit: io, callbacks: self) } catch {
                try handle(error, of: processor)
            }
        case .memory(let access):
            do { try assistMemory(processor.vcpu, machine, exit: access, callbacks: self) } catch {
                try handle(error, of: processor)
            }
        case .readMSR(let read):
            let value = readMSR(read.msr, of: processor)
            try complete(processor, npc: read.npc) { state in
                state[.rax] = value & 0xFFFF_FFFF
                state[.rdx] = value >> 32
            }
        case .writeMSR(let write):
            writeMSR(write.msr, write.value, of: processor)
            try complete(processor, npc: write.npc) { _ in }
        case .cpuid(let npc): try complete(processor, npc: npc) { _ in }
        case .monitor, .mwait: processor.owedException = VCPUEvent(kind: .exception, vector: 6)
        case .shutdown: ending = ending ?? .shutdown(vcpu: id)
        case .invalid(let code): ending = ending ?? .invalidExit(vcpu: id, hardwareCode: code)
        }
    }

    /// Changes GPRs and moves RIP past the instruction.
    private func complete(
        _ processor: Processor, npc: UInt64, _ change: (inout VCPUState) -> Void
    ) throws(PCError) {
        do { try processor.vcpu.getState(.gprs) } catch { throw .vcpu(error) }
        change(&processor.vcpu.commPage.state)
        processor.vcpu.commPage.state[.rip] = npc
        processor.vcpu.setState(.gprs)
    }

    /// What an assist could not do: the guest's own fault goes back to the guest, as a processor would have it.
    private func handle(_ error: AssistError, of processor: Processor) throws(PCError) {
        switch error {
        case .pageFault(let address, let code):
            do { try processor.vcpu.getState(.crs) } catch { throw .vcpu(error) }
            processor.vcpu.commPage.state[.cr2] = address.rawValue
            processor.vcpu.setState(.crs)
            processor.owedException = VCPUEvent(kind: .exception, vector: 14, errorCode: code)
        case .segmentViolation(let segment, _):
            processor.owedException = VCPUEvent(kind: .exception, vector: segment == .ss ? 12 : 13)
        case .exception(let vector, let code):
            processor.owedException = VCPUEvent(kind: .exception, vector: vector, errorCode: code ?? 0)
        case .vcpu(let error): throw .vcpu(error)
        case .machine(let error): throw .machine(error)
        case .pageTableOutsideMemory, .undecodable, .unsupported, .unanswered:
            let rip = processor.vcpu.commPage.state[.rip]
            ending = ending ?? .emulationFailed(vcpu: processor.vcpu.id, rip: rip, reason: Self.describe(error))
        }
    }

    private static func describe(_ error: AssistError) -> String {
        switch error {
        case .unsupported(_, let mnemonic, _): "unsupported \(mnemonic)"
        case .undecodable: "undecodable instruction"
        case .pageTableOutsideMemory(let gpa): "page table outside memory at gpa 0x\(String(gpa.rawValue, radix: 16))"
        default: "\(error)"
        }
    }

    // MARK: - MSRs that reach the VMM

    private func readMSR(_ msr: UInt32, of processor: Processor) -> UInt64 {
        switch msr {
        case 0x1B: processor.apic.base
        // As QEMU on NVMM: MTRRs and everything unknown read as zero.
        default: 0
        }
    }

    private func writeMSR(_ msr: UInt32, _ value: UInt64, of processor: Processor) {
        // The APIC can be switched off, not moved.
        if msr == 0x1B { processor.apic.base = processor.apic.base & ~0x800 | value & 0x800 }
    }
}
