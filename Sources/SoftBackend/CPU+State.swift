// Between the interpreter's registers and the state that NVMM's API shows.

import CZydis
import NVMM

extension CPU {
    /// Bits 0 to 3 of `intr`.
    var interruptState: InterruptState {
        var state: InterruptState = []
        if interruptShadow { state.insert(.shadow) }
        if interruptWindow { state.insert(.interruptWindowExiting) }
        if nmiWindow { state.insert(.nmiWindowExiting) }
        if pendingDelivery != nil { state.insert(.eventPending) }
        return state
    }

    /// Installs the parts in `flags`, with the filters of NVMM's setstate.
    ///
    /// - Parameter clock: the machine's clock, which the TSC counts from.
    mutating func install(_ flags: StateFlags, from state: VCPUState, clock: UInt64) {
        guard !flags.isEmpty else { return }
        if flags.contains(.segments) {
            for index in 0..<10 { segments[index] = state.segments[index] }
            cpl = segments[SegmentRegister.ss.rawValue].attributes.dpl
        }
        if flags.contains(.gprs) {
            for index in 0..<16 { gpr[index] = state.gprs[index] }
            rip = state[.rip]
            rflags = state[.rflags]
        }
        if flags.contains(.crs) {
            let translationBits = (cr0 ^ state[.cr0]) | (cr3 ^ state[.cr3]) | (cr4 ^ state[.cr4])
            cr0 = state[.cr0] & CR0.defined | CR0.et
            cr2 = state[.cr2]
            cr3 = state[.cr3]
            cr4 = state[.cr4] & model.cr4Mask
            cr8 = state[.cr8] & 0xF
            xcr0 = state[.xcr0] & model.stateComponents | 1
            if translationBits != 0 { flushTLB() }
        }
        if flags.contains(.drs) {
            for index in 0..<4 { dr[index] = state.drs[index] }
            dr[6] = state[.dr6] & 0xFFFF_FFFF
            dr[7] = state[.dr7] & 0xFFFF_FFFF
            flushTLB()
        }
        if flags.contains(.msrs) {
            for index in 0..<11 { msrs[index] = state.msrs[index] }
            if (efer ^ state[.efer]) != 0 { flushTLB() }
            efer = state[.efer] & (EFER.writable | EFER.lma)
            tscOffset = state[.tsc] &- clock
        }
        if flags.contains(.interrupt) {
            interruptShadow = state.interrupt.contains(.shadow)
            shadowBlocksDebug = interruptShadow
            interruptWindow = state.interrupt.contains(.interruptWindowExiting)
            nmiWindow = state.interrupt.contains(.nmiWindowExiting)
        }
        if flags.contains(.fpu) {
            fxsaveArea = state.fpu
            fpu.mxcsr &= 0xFFFF
        }
        if !flags.isDisjoint(with: [.crs, .msrs]), cr0 & CR0.pg != 0, cr4 & CR4.pae != 0, !isLongMode {
            // As a hypervisor without hardware PDPTE loading does: taken from memory, present or not.
            for index in 0..<4 {
                pdptes[index] = loadPhysicalIfMapped((cr3 & 0xFFFF_FFE0) &+ UInt64(index) &* 8, byteCount: 8) ?? 0
            }
        }
        updateMode()
    }

    /// Writes the parts in `flags` to `state`.
    func extract(_ flags: StateFlags, into state: inout VCPUState, clock: UInt64) {
        if flags.contains(.segments) {
            for index in 0..<10 { state.segments[index] = segments[index] }
        }
        if flags.contains(.gprs) {
            for index in 0..<16 { state.gprs[index] = gpr[index] }
            state[.rip] = rip
            state[.rflags] = rflags
        }
        if flags.contains(.crs) {
            state[.cr0] = cr0
            state[.cr2] = cr2
            state[.cr3] = cr3
            state[.cr4] = cr4
            state[.cr8] = cr8
            state[.xcr0] = xcr0
        }
        if flags.contains(.drs) {
            for index in 0..<4 { state.drs[index] = dr[index] }
            state[.dr6] = dr[6]
            state[.dr7] = dr[7]
        }
        if flags.contains(.msrs) {
            for index in 0..<11 { state.msrs[index] = msrs[index] }
            state[.efer] = efer
            state[.tsc] = clock &+ tscOffset
        }
        if flags.contains(.interrupt) { state.interrupt = interruptState }
        if flags.contains(.fpu) { state.fpu = fxsaveArea }
    }

    // MARK: - What a run does around the loop

    /// `nvmm_vcpu_run`. The order is that of NVMM's kernel side: return early, commit, forget what was cached, inject,
    /// enter.
    ///
    /// - Parameter clock: the machine's, at entry.
    mutating func run(
        _ commPage: CommPage, clock: UInt64, fault: InjectedFault, budget: UInt64
    ) throws(VCPUError) -> RunResult {
        if commPage.stop {
            commPage.stop = false
            return RunResult(exit: VCPUExit(reason: .stopped), kind: .returnedEarly, retired: 0)
        }
        let commit = commPage.stateCommit
        commPage.stateCommit = []
        install(commit, from: commPage.state, clock: clock)
        commPage.stateWanted = []
        commPage.stateCached = []
        var event = takePendingDelivery()
        var consumed: VCPUEvent?
        if commPage.takeEventCommit() {
            let injected = commPage.event
            guard injected.isValid else {
                commPage.stop = false
                throw .badEvent(injected)
            }
            // An injection replaces an event that was still pending.
            event = injected
            consumed = injected
            if injected.kind == .interrupt, injected.vector == 2 { nmiWindow = true }
        }
        self.fault = fault
        clockAtEntry = clock
        let reason = enter(event: event, budget: budget)
        let provided = providing.map { $0[reason.code] } ?? reason.providedState
        if !provided.isEmpty {
            extract(provided, into: &commPage.state, clock: clock &+ retired)
            commPage.stateCached = provided
        }
        // A budget ends a run where the client sees no exit, so does giving way: a stop that came is the next run's.
        if reason != .none { commPage.stop = false }
        let state = ExitState(rflags: rflags, cr8: cr8, interrupt: interruptState)
        return RunResult(exit: VCPUExit(reason: reason, state: state), retired: retired, event: consumed)
    }

    private mutating func takePendingDelivery() -> VCPUEvent? {
        defer { pendingDelivery = nil }
        return pendingDelivery
    }

    /// Delivers `event`, then executes.
    mutating func enter(event: VCPUEvent?, budget: UInt64) -> ExitReason {
        retired = 0
        extraRetired = 0
        blockStart = cursor
        memory.findUnseenChanges()
        if memory.mayChangeUnseen { code.beginRun() }
        if memoryGeneration != memory.generation {
            memoryGeneration = memory.generation
            flushTLB()
        }
        findEntrance()
        updateAttention()
        if let event, let reason = deliverEvent(event) { return reason }
        return run(budget: budget)
    }

    // MARK: - Private state

    func counters() -> [Counter] {
        unsupported.map { mnemonic, count in
            let text = unsafe ZydisMnemonicGetString(ZydisMnemonic(rawValue: UInt32(mnemonic))).map {
                unsafe String(cString: $0)
            }
            return Counter(name: "unsupported \(text ?? "#\(mnemonic)")", value: count)
        }
        .sorted { $0.name < $1.name }
    }

    private static var privateStateVersion: UInt8 { 1 }

    /// Everything that ``VCPUState`` does not show and a restart needs.
    func savePrivateState() -> [UInt8] {
        var writer = PrivateStateWriter(version: Self.privateStateVersion)
        writer.append(nmiBlocked)
        writer.append(shadowBlocksDebug)
        writer.append(exitsOnTPRChange)
        writer.append(pendingDebug)
        writer.append(attention.contains(.exit))
        writer.append(tscOffset)
        for index in 0..<4 { writer.append(pdptes[index]) }
        writer.append(pendingDelivery != nil)
        writer.append(UInt64(pendingDelivery?.kind.rawValue ?? 0))
        writer.append(UInt64(pendingDelivery?.vector ?? 0))
        writer.append(pendingDelivery?.errorCode ?? 0)
        let rules = cpuidRules.sorted { $0.key < $1.key }
        writer.append(UInt64(rules.count))
        for (leaf, rule) in rules {
            writer.append(UInt64(leaf))
            switch rule {
            case .mask(let set, let delete):
                writer.append(UInt64(0))
                for registers in [set, delete] {
                    for value in [registers.eax, registers.ebx, registers.ecx, registers.edx] {
                        writer.append(UInt64(value))
                    }
                }
            case .exit, .remove: writer.append(UInt64(1))
            }
        }
        let counts = unsupported.sorted { $0.key < $1.key }
        writer.append(UInt64(counts.count))
        for (mnemonic, count) in counts {
            writer.append(UInt64(mnemonic))
            writer.append(count)
        }
        // NVMM has no state for it.
        if model.stateComponents & StateComponent.avx != 0 {
            for index in 0..<16 {
                writer.append(ymmHigh[index].low)
                writer.append(ymmHigh[index].high)
            }
        }
        return writer.bytes
    }

    /// Puts the processor where ``extract(_:into:clock:)`` and ``savePrivateState()`` found it.
    ///
    /// - Returns: false, having changed nothing, where the bytes are not of this version or damaged.
    mutating func restore(_ state: VCPUState, privateState bytes: [UInt8], clock: UInt64) -> Bool {
        guard var reader = PrivateStateReader(bytes, version: Self.privateStateVersion) else { return false }
        var words: [UInt64] = []
        for _ in 0..<14 {
            guard let word = reader.next() else { return false }
            words.append(word)
        }
        guard let ruleCount = reader.next(), ruleCount <= 32 else { return false }
        var rules: [UInt32: CPUIDRule] = [:]
        for _ in 0..<ruleCount {
            guard let leaf = reader.next(), let kind = reader.next() else { return false }
            if kind == 1 {
                rules[UInt32(truncatingIfNeeded: leaf)] = .exit
                continue
            }
            var values: [UInt32] = []
            for _ in 0..<8 {
                guard let value = reader.next() else { return false }
                values.append(UInt32(truncatingIfNeeded: value))
            }
            rules[UInt32(truncatingIfNeeded: leaf)] = .mask(
                set: CPUIDRegisters(eax: values[0], ebx: values[1], ecx: values[2], edx: values[3]),
                delete: CPUIDRegisters(eax: values[4], ebx: values[5], ecx: values[6], edx: values[7]))
        }
        guard let countCount = reader.next(), countCount <= 0x1_0000 else { return false }
        var counts: [UInt16: UInt64] = [:]
        for _ in 0..<countCount {
            guard let mnemonic = reader.next(), let count = reader.next() else { return false }
            counts[UInt16(truncatingIfNeeded: mnemonic)] = count
        }
        var upper: [UInt64] = []
        if model.stateComponents & StateComponent.avx != 0 {
            for _ in 0..<32 {
                guard let word = reader.next() else { return false }
                upper.append(word)
            }
        }
        guard reader.isAtEnd else { return false }
        for index in upper.indices { ymmHigh[index / 2].words[index & 1] = upper[index] }
        install(.all, from: state, clock: clock)
        flushTLB()
        nmiBlocked = words[0] != 0
        shadowBlocksDebug = words[1] != 0
        exitsOnTPRChange = words[2] != 0
        pendingDebug = words[3]
        if words[4] != 0 { attention.insert(.exit) } else { attention.remove(.exit) }
        tscOffset = words[5]
        for index in 0..<4 { pdptes[index] = words[6 + index] }
        pendingDelivery =
            words[10] == 0
            ? nil
            : VCPUEvent(
                kind: .init(rawValue: UInt32(truncatingIfNeeded: words[11])),
                vector: UInt8(truncatingIfNeeded: words[12]),
                errorCode: words[13])
        cpuidRules = rules
        unsupported = counts
        updateAttention()
        if pendingDebug != 0 { attention.insert(.debug) }
        return true
    }
}
