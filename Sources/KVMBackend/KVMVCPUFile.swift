// The descriptor of a VCPU and its `struct kvm_run`, with registers that are synchronised at each exit.

#if os(Linux) && arch(x86_64)
    import CKVM
    import Glibc

    /// SAFETY: `run` is the shared mapping of `byteCount` bytes, at least a `struct kvm_run`, until deinit; `runner` is
    /// one allocation, freed in deinit. The kernel writes to the mapping during KVM_RUN only.
    @safe final class KVMVCPUFile {
        private let file: KVMFile
        private let run: UnsafeMutablePointer<kvm_run>
        private let byteCount: Int
        private let runner: UnsafeMutablePointer<ckvm_runner>
        private var cpuid: [UInt8] = []

        init(_ file: KVMFile, runByteCount: Int) throws(KVMRefusal) {
            self.file = file
            byteCount = runByteCount
            guard runByteCount >= MemoryLayout<kvm_run>.size,
                let mapping = unsafe mmap(
                    nil, runByteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor, 0),
                unsafe mapping != MAP_FAILED
            else { throw KVMRefusal(call: .getRunByteCount, errno: errno) }
            unsafe run = mapping.assumingMemoryBound(to: kvm_run.self)
            unsafe runner = .allocate(capacity: 1)
            unsafe runner.initialize(to: ckvm_runner())
            unsafe run.pointee.kvm_valid_regs = UInt64(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
        }

        deinit {
            unsafe munmap(run, byteCount)
            unsafe runner.deallocate()
        }

        // MARK: Running

        /// - Parameter nanoseconds: after which the run ends in any case; 0: before any instruction.
        /// - Returns: 0, or the error number.
        func run(nanoseconds: UInt64) -> Int32 {
            let result = unsafe ckvm_run(file.descriptor, run, runner, nanoseconds)
            return -result
        }

        /// Ends what the last exit left open, without executing anything else.
        ///
        /// - Returns: EINTR where that is done, 0 for another exit of the same instruction.
        func complete() -> Int32 {
            let result = unsafe ckvm_complete(file.descriptor, run)
            return -result
        }

        /// Any thread, async-signal-safe.
        func kick() { unsafe ckvm_kick(runner) }

        /// Whether each instruction ends in an exit of its own.
        func setStepping(_ isOn: Bool) throws(KVMRefusal) {
            var debug = kvm_guest_debug()
            if isOn { debug.control = UInt32(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP) }
            try file.call(.setGuestDebug, with: &debug)
        }

        // MARK: What is shared

        /// Of the last exit.
        var registers: kvm_sync_regs { unsafe ckvm_synchronised(run) }

        /// Registers for the next entry; `parts` of them are installed there: `KVM_SYNC_X86_*`.
        func store(_ registers: kvm_sync_regs, parts: UInt64) {
            var registers = registers
            unsafe ckvm_install(run, &registers, parts)
        }

        var wantsInterruptWindow: Bool {
            get { unsafe run.pointee.request_interrupt_window != 0 }
            set { unsafe run.pointee.request_interrupt_window = newValue ? 1 : 0 }
        }
        var taskPriority: UInt64 {
            get { unsafe run.pointee.cr8 }
            set { unsafe run.pointee.cr8 = newValue }
        }
        var exitReason: Int32 { unsafe Int32(bitPattern: run.pointee.exit_reason) }
        var portAccess: ckvm_io { unsafe ckvm_io_of(run) }
        var memoryAccess: ckvm_mmio { unsafe ckvm_mmio_of(run) }
        var msr: UInt32 { unsafe ckvm_msr_index(run) }
        var msrValue: UInt64 { unsafe ckvm_msr_value(run) }
        var internalError: UInt32 { unsafe ckvm_internal_error(run) }
        var entryFailure: UInt64 { unsafe ckvm_entry_failure(run) }

        /// Answers the access that the last exit asked for with zeros: what the instruction does with them is undone.
        func answerWithZeros() {
            switch exitReason {
            case KVM_EXIT_IO:
                let access = portAccess
                let count = Int(access.size) * Int(access.count)
                guard access.data_offset <= UInt64(byteCount), count <= byteCount - Int(access.data_offset) else {
                    return
                }
                let data = unsafe UnsafeMutableRawPointer(run) + Int(access.data_offset)
                unsafe data.initializeMemory(as: UInt8.self, repeating: 0, count: count)
            case KVM_EXIT_MMIO: unsafe ckvm_clear_mmio_data(run)
            case KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR: unsafe ckvm_answer_msr(run)
            default: break
            }
        }

        // MARK: What takes a call

        /// KVM takes no other table once the VCPU has run; the same one needs no call.
        func setCPUID(_ table: ckvm_cpuid) throws(KVMRefusal) {
            let bytes = unsafe withUnsafeBytes(of: table) { unsafe [UInt8]($0) }
            guard bytes != cpuid else { return }
            try set(.setCPUID, table)
            cpuid = bytes
        }

        func get<Structure>(_ call: KVMCall, into structure: inout Structure) throws(KVMRefusal) {
            try file.call(call, with: &structure)
        }

        func set<Structure>(_ call: KVMCall, _ structure: Structure) throws(KVMRefusal) {
            var structure = structure
            try file.call(call, with: &structure)
        }

        /// - Returns: how many of the registers were read or written: the first that is none ends it.
        func msrs(_ call: KVMCall, _ list: inout ckvm_msrs) throws(KVMRefusal) -> Int {
            Int(try file.call(call, with: &list))
        }

        /// Where a linear address lies, by the page tables of the VCPU as it stands.
        func translate(_ linear: UInt64) -> UInt64? {
            var translation = kvm_translation()
            translation.linear_address = linear
            guard (try? file.call(.translate, with: &translation)) != nil, translation.valid != 0 else { return nil }
            return translation.physical_address
        }
    }
#endif
