// The VCPU's state: what `struct kvm_run` shows costs nothing, the rest a call for each part.

#if os(Linux) && arch(x86_64)
    import CKVM
    import NVMM

    extension KVMVCPU {
        /// MSRs of NVMM's state that take a call; EFER comes with the segments.
        private static let storedMSRs: [(MSR, UInt32)] = [
            (.star, 0xC000_0081), (.lstar, 0xC000_0082), (.cstar, 0xC000_0083), (.sfmask, 0xC000_0084),
            (.kernelGSBase, 0xC000_0102), (.sysenterCS, 0x174), (.sysenterESP, 0x175), (.sysenterEIP, 0x176),
            (.pat, 0x277), (.tsc, 0x10),
        ]

        /// Puts parts of a state into the processor, or where the next entry finds them.
        func install(_ flags: StateFlags, from state: VCPUState) throws(KVMRefusal) {
            guard !flags.isEmpty else { return }
            registers.install(flags, from: state)
            changed |= kvm_sync_regs.structures(of: flags)
            if flags.contains(.interrupt) {
                interruptWindow = state.interrupt.contains(.interruptWindowExiting)
                nmiWindow = state.interrupt.contains(.nmiWindowExiting)
            }
            if flags.contains(.crs), state[.xcr0] != xcr0 { try setXCR0(state[.xcr0]) }
            if flags.contains(.msrs) { try setMSRs(state) }
            if flags.contains(.drs) {
                var debug = kvm_debugregs()
                debug.db = (state[.dr0], state[.dr1], state[.dr2], state[.dr3])
                debug.dr6 = state[.dr6] & 0xFFFF_FFFF
                debug.dr7 = state[.dr7] & 0xFFFF_FFFF
                try file.set(.setDebugRegisters, debug)
            }
            if flags.contains(.fpu) { try setFPU(state) }
        }

        /// The parts that cost no call.
        func extract(_ flags: StateFlags, into state: inout VCPUState) {
            registers.extract(flags, into: &state)
            if flags.contains(.crs) { state[.xcr0] = xcr0 }
            if flags.contains(.interrupt) { state.interrupt = interruptState }
        }

        private func fetch(_ flags: StateFlags, into state: inout VCPUState) throws(KVMRefusal) {
            if flags.contains(.crs), registers.sregs.cr4 & 1 << 18 != 0 { try fetchXCR0() }  // OSXSAVE
            extract(flags, into: &state)
            if flags.contains(.msrs) { try fetchMSRs(into: &state) }
            if flags.contains(.drs) {
                var debug = kvm_debugregs()
                try file.get(.getDebugRegisters, into: &debug)
                state[.dr0] = debug.db.0
                state[.dr1] = debug.db.1
                state[.dr2] = debug.db.2
                state[.dr3] = debug.db.3
                state[.dr6] = debug.dr6
                state[.dr7] = debug.dr7
            }
            if flags.contains(.fpu) { try fetchFPU(into: &state) }
        }

        // MARK: - Calls

        private func setXCR0(_ value: UInt64) throws(KVMRefusal) {
            var list = kvm_xcrs()
            list.nr_xcrs = 1
            list.xcrs.0.value = value
            try file.set(.setXCRs, list)
            xcr0 = value
        }

        private func fetchXCR0() throws(KVMRefusal) {
            var list = kvm_xcrs()
            try file.get(.getXCRs, into: &list)
            if list.nr_xcrs > 0, list.xcrs.0.xcr == 0 { xcr0 = list.xcrs.0.value }
        }

        private func setMSRs(_ state: VCPUState) throws(KVMRefusal) {
            var list = ckvm_msrs()
            list.count = UInt32(Self.storedMSRs.count)
            unsafe withUnsafeMutableBytes(of: &list.entries) { entries in
                let entries = unsafe entries.assumingMemoryBound(to: kvm_msr_entry.self)
                for (index, (register, number)) in Self.storedMSRs.enumerated() {
                    unsafe entries[index] = kvm_msr_entry(index: number, reserved: 0, data: state[register])
                }
            }
            let count = try file.msrs(.setMSRs, &list)
            guard count == Self.storedMSRs.count else { throw KVMRefusal(call: .setMSRs, errno: 22) }
        }

        private func fetchMSRs(into state: inout VCPUState) throws(KVMRefusal) {
            var list = ckvm_msrs()
            list.count = UInt32(Self.storedMSRs.count)
            unsafe withUnsafeMutableBytes(of: &list.entries) { entries in
                let entries = unsafe entries.assumingMemoryBound(to: kvm_msr_entry.self)
                for (index, (_, number)) in Self.storedMSRs.enumerated() {
                    unsafe entries[index] = kvm_msr_entry(index: number, reserved: 0, data: 0)
                }
            }
            let count = try file.msrs(.getMSRs, &list)
            guard count == Self.storedMSRs.count else { throw KVMRefusal(call: .getMSRs, errno: 22) }
            unsafe withUnsafeBytes(of: &list.entries) { entries in
                let entries = unsafe entries.assumingMemoryBound(to: kvm_msr_entry.self)
                for (index, (register, _)) in Self.storedMSRs.enumerated() {
                    state[register] = unsafe entries[index].data
                }
            }
        }

        /// The first 512 bytes of XSAVE's area are an FXSAVE image; then XSTATE_BV, whose bits 0 and 1 say that it
        /// counts (SDM vol. 1, section 13.4).
        private func setFPU(_ state: VCPUState) throws(KVMRefusal) {
            installedFPU = state.fpu
            var area = kvm_xsave()
            try file.get(.getXSave, into: &area)
            unsafe withUnsafeMutableBytes(of: &area) { area in
                state.withWords { words in
                    for (index, word) in VCPUState.wordRange(of: .fpu).enumerated() {
                        unsafe area.storeBytes(of: words[word], toByteOffset: index * 8, as: UInt64.self)
                    }
                }
                unsafe area.storeBytes(
                    of: area.load(fromByteOffset: 512, as: UInt64.self) | 3, toByteOffset: 512, as: UInt64.self)
                // Bits that the processor does not have would be refused.
                unsafe area.storeBytes(of: state.fpu.mxcsr & 0xFFFF, toByteOffset: 24, as: UInt32.self)
            }
            try file.set(.setXSave, area)
        }

        private func fetchFPU(into state: inout VCPUState) throws(KVMRefusal) {
            var area = kvm_xsave()
            try file.get(.getXSave, into: &area)
            let before = installedFPU
            unsafe withUnsafeBytes(of: &area) { area in
                state.withMutableWords { words in
                    for (index, word) in VCPUState.wordRange(of: .fpu).enumerated() {
                        words[word] = unsafe area.load(fromByteOffset: index * 8, as: UInt64.self)
                    }
                }
            }
            // What no instruction but FXRSTOR changes, and the host's kernel fills as it likes.
            state.fpu.zero = before.zero
            state.fpu.mxcsrMask = before.mxcsrMask
            state.fpu.reserved = before.reserved
        }

        // MARK: - Whole state

        func fetchWantedState() throws(VCPUError) {
            guard !isDestroyed else { throw .destroyed }
            let wanted = commPage.stateWanted
            do throws(KVMRefusal) { try fetch(wanted, into: &commPage.state) } catch { throw VCPUError(error) }
            commPage.stateWanted = []
            commPage.stateCached.formUnion(wanted)
        }

        func saveState() -> VCPUState {
            var state = VCPUState.reset
            saveState(into: &state)
            return state
        }

        /// A part that the kernel does not give stays as `state` had it.
        func saveState(into state: inout VCPUState) {
            for part in VCPUState.parts {
                do throws(KVMRefusal) { try fetch(part, into: &state) } catch { continue }
            }
        }

        func savePrivateState() -> [UInt8] {
            let events = registers.events
            let event: [UInt64]
            if events.exception.injected != 0 {
                event = [1, UInt64(events.exception.nr), UInt64(events.exception.error_code)]
            } else if events.interrupt.injected != 0 {
                event = [2, UInt64(events.interrupt.nr), 0]
            } else {
                event = [events.nmi.injected != 0 ? 2 : 0, 2, 0]
            }
            return PrivateWords([UInt64(events.nmi.masked)] + event).bytes
        }

        func restore(_ state: VCPUState, privateState: [UInt8]) throws(VCPUError) {
            guard !isDestroyed else { throw .destroyed }
            guard let words = PrivateWords(privateState, count: 4)?.words, words[1] <= 2, words[2] <= 255 else {
                throw .privateStateRefused("KVM VCPU")
            }
            do throws(KVMRefusal) { try install(.all, from: state) } catch { throw VCPUError(error) }
            registers.events.exception = .init()
            registers.events.interrupt.injected = 0
            registers.events.nmi.injected = 0
            registers.events.nmi.masked = UInt8(truncatingIfNeeded: words[0])
            if words[1] != 0 {
                registers.inject(
                    VCPUEvent(
                        kind: words[1] == 1 ? .exception : .interrupt, vector: UInt8(words[2]), errorCode: words[3]))
            }
            commPage.restart(with: state)
        }
    }
#endif
