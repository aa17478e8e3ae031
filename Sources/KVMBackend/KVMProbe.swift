// What a host's KVM does is asked of a guest: some lines of real-mode code on a machine of their own.

#if os(Linux) && arch(x86_64)
    import NVMM

    struct KVMProbe {
        private let machine: KVMMachine
        private let memory: MemoryObject
        private let vcpu: any VCPU

        init(_ machine: KVMMachine) throws {
            self.machine = machine
            memory = try machine.hvaMap(byteCount: pageBytes)
            try machine.gpaMap(
                memory, offset: 0, gpa: GPA(0), byteCount: pageBytes, protection: [.read, .write, .execute])
            vcpu = try machine.createVCPU(id: 0)
        }

        /// The row of CPUID as a guest sees it.
        func shown(_ entry: CPUIDEntry) throws -> CPUIDEntry {
            try run([0x0F, 0xA2, 0xF4]) { state in  // cpuid; hlt
                state[.rax] = UInt64(entry.leaf)
                state[.rcx] = UInt64(entry.subleaf)
            }
            try vcpu.getState(.gprs)
            let state = vcpu.commPage.state
            return CPUIDEntry(
                leaf: entry.leaf, subleaf: entry.subleaf,
                registers: CPUIDRegisters(
                    eax: UInt32(truncatingIfNeeded: state[.rax]), ebx: UInt32(truncatingIfNeeded: state[.rbx]),
                    ecx: UInt32(truncatingIfNeeded: state[.rcx]), edx: UInt32(truncatingIfNeeded: state[.rdx])))
        }

        /// ``KVMBackend/opensInterruptWindows``.
        func opensInterruptWindows() throws -> Bool {
            // sti; nop; nop; hlt
            try run([0xFB, 0x90, 0x90, 0xF4]) { $0.interrupt = .interruptWindowExiting } == .interruptReady
        }

        /// Runs `code` in real mode until it exits; a guest this short does so soon.
        @discardableResult
        private func run(_ code: [UInt8], _ change: (inout VCPUState) -> Void) throws -> ExitReason {
            try machine.write(memory, at: 0, code)
            var state = VCPUState.reset
            state[.cs] = Segment(attributes: state[.cs].attributes, limit: 0xFFFF)
            state[.rip] = 0
            change(&state)
            vcpu.commPage.state = state
            vcpu.setState([.gprs, .segments, .interrupt])
            for _ in 0..<100 {
                let reason = try vcpu.run(budget: 100_000_000).exit.reason
                if reason != .none { return reason }
            }
            return .none
        }
    }
#endif
