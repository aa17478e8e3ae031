// One VCPU over KVM: the comm-page protocol around KVM_RUN.

#if os(Linux) && arch(x86_64)
    import CKVM
    import Glibc
    import NVMM

    final class KVMVCPU: VCPU {
        let id: UInt32
        let commPage = CommPage()
        let file: KVMVCPUFile
        unowned let machine: KVMMachine
        var isDestroyed = false
        /// As the processor has them, or will at the next entry.
        var registers: kvm_sync_regs
        /// `KVM_SYNC_X86_*` of what the next entry has to install.
        var changed: UInt64 = 0
        var interruptWindow = false
        var nmiWindow = false
        var xcr0: UInt64 = 1
        var installedFPU = FXSaveArea()
        var cpuid: CPUIDConfiguration
        let accesses = UnfinishedAccess()

        init(id: UInt32, machine: KVMMachine, file: KVMVCPUFile) throws(KVMRefusal) {
            self.id = id
            self.machine = machine
            self.file = file
            cpuid = CPUIDConfiguration(table: machine.cpuidTable, vcpu: id)
            try file.setCPUID(cpuid.structure)
            // An entry that executes nothing shows the registers that KVM starts with.
            _ = file.run(nanoseconds: 0)
            registers = file.registers
            var state = VCPUState.reset
            state[.tsc] = 0
            try install(.all, from: state)
            commPage.state = state
            commPage.stateCached = .all
        }

        // MARK: Configuration

        func configure(_ configuration: VCPUConfiguration) throws(VCPUError) {
            guard !isDestroyed else { throw .destroyed }
            guard case .cpuid(let leaf, let rule) = configuration else {
                if case .tpr(exitOnChange: false) = configuration { return }
                throw .unsupportedConfiguration
            }
            var changed = cpuid
            try changed.set(rule, leaf: leaf)
            do throws(KVMRefusal) { try file.setCPUID(changed.structure) } catch { throw VCPUError(error) }
            cpuid = changed
        }

        // MARK: Running

        /// A run that counts no instructions is bounded by time: no shorter than a timer rings reliably.
        private static let shortestBound: UInt64 = 1_000_000

        func run(budget: UInt64?) throws(VCPUError) -> RunResult {
            guard !isDestroyed else { throw .destroyed }
            if commPage.stop {
                commPage.stop = false
                return RunResult(exit: VCPUExit(reason: .stopped), kind: .returnedEarly, retired: nil)
            }
            // What the host refuses stays committed.
            do throws(KVMRefusal) { try install(commPage.stateCommit, from: commPage.state) } catch {
                throw VCPUError(error)
            }
            commPage.stateCommit = []
            commPage.stateWanted = []
            commPage.stateCached = []
            var consumed: VCPUEvent?
            if commPage.takeEventCommit() {
                let event = commPage.event
                guard event.isValid else {
                    commPage.stop = false
                    throw .badEvent(event)
                }
                registers.inject(event)
                changed |= UInt64(KVM_SYNC_X86_EVENTS | KVM_SYNC_X86_REGS)
                consumed = event
                if event.kind == .interrupt, event.vector == 2 { nmiWindow = true }
            }
            let reason = enter(bound: budget.map { $0 == 0 ? 0 : max($0, Self.shortestBound) } ?? .max)
            let provided = reason.providedState.subtracting(.msrs)
            if !provided.isEmpty {
                extract(provided, into: &commPage.state)
                commPage.stateCached = provided
            }
            if reason != .none { commPage.stop = false }
            return RunResult(exit: VCPUExit(reason: reason, state: exitState), retired: nil, event: consumed)
        }

        private var exitState: ExitState {
            ExitState(rflags: registers.regs.rflags, cr8: registers.sregs.cr8, interrupt: interruptState)
        }

        var interruptState: InterruptState {
            var state: InterruptState = []
            if registers.isShadowed { state.insert(.shadow) }
            if interruptWindow { state.insert(.interruptWindowExiting) }
            if nmiWindow { state.insert(.nmiWindowExiting) }
            if registers.hasEvent { state.insert(.eventPending) }
            return state
        }

        private func enter(bound: UInt64) -> ExitReason {
            if bound != 0, let open = takeOpenWindow() { return open }
            file.wantsInterruptWindow = interruptWindow
            let looksOften = commPage.giveWay || interruptWindow && !machine.opensInterruptWindows
            let bound = looksOften ? min(bound, Self.shortestBound) : bound
            return nmiWindow && bound != 0 ? step(nanoseconds: bound) : reason(for: enterOnce(nanoseconds: bound))
        }

        /// - Parameter error: of KVM_RUN; 0 where it says why it ended.
        private func reason(for error: Int32) -> ExitReason {
            guard error == 0 else {
                return error == EINTR || error == EAGAIN ? .none : .invalid(hardwareCode: UInt64(UInt32(error)) << 32)
            }
            switch file.exitReason {
            case KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR:
                return accesses.finish(self)
            case KVM_EXIT_HLT: return halt()
            case KVM_EXIT_IRQ_WINDOW_OPEN:
                interruptWindow = false
                return .interruptReady
            case KVM_EXIT_SHUTDOWN: return .shutdown
            case KVM_EXIT_INTR, KVM_EXIT_SET_TPR: return .none
            case KVM_EXIT_FAIL_ENTRY:
                return .invalid(hardwareCode: UInt64(KVM_EXIT_FAIL_ENTRY) | file.entryFailure << 32)
            case KVM_EXIT_INTERNAL_ERROR:
                return .invalid(hardwareCode: UInt64(KVM_EXIT_INTERNAL_ERROR) | UInt64(file.internalError) << 32)
            default: return .invalid(hardwareCode: UInt64(UInt32(bitPattern: file.exitReason)))
            }
        }

        private func halt() -> ExitReason {
            // NVMM's own: a window that the halt finds open is closed without an exit.
            if registers.takesInterrupts { interruptWindow = false }
            return .halted
        }

        /// The exit of a window that is open as the registers stand, which it is then no longer.
        private func takeOpenWindow() -> ExitReason? {
            guard !registers.hasEvent, !registers.isShadowed else { return nil }
            if interruptWindow, registers.takesInterrupts {
                interruptWindow = false
                return .interruptReady
            }
            guard nmiWindow, registers.takesNMIs else { return nil }
            nmiWindow = false
            return .nmiReady
        }

        /// Instruction by instruction until NMIs can be taken or the time is over: KVM knows no window of theirs.
        private func step(nanoseconds: UInt64) -> ExitReason {
            do throws(KVMRefusal) { try file.setStepping(true) } catch { return reason(for: error.errno) }
            defer { try? file.setStepping(false) }
            let begin = machine.clock
            while true {
                let rip = registers.regs.rip
                let error = enterOnce(nanoseconds: nanoseconds)
                guard error == 0, file.exitReason == KVM_EXIT_DEBUG else { return reason(for: error) }
                // The step's own exit takes the place of that of HLT.
                if registers.regs.rip == rip &+ 1, accesses.isHalt(at: rip, self) { return halt() }
                if let open = takeOpenWindow() { return open }
                guard !commPage.stop, !commPage.giveWay, machine.clock &- begin < nanoseconds else { return .none }
            }
        }

        private func enterOnce(nanoseconds: UInt64) -> Int32 {
            // With the interrupt controller in user space every entry takes the task priority from here.
            file.taskPriority = registers.sregs.cr8
            file.store(registers, parts: changed)
            changed = 0
            let error = file.run(nanoseconds: nanoseconds)
            registers = file.registers
            return error
        }

        func stop() {
            commPage.stop = true
            file.kick()
        }

        func giveWay() {
            commPage.giveWay = true
            file.kick()
        }

        func counters() -> [Counter] { accesses.counters }
    }
#endif
