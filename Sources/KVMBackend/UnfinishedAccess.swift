// Exits that KVM leaves in the middle of an instruction. NVMM shows a VMM the registers before it, and lets the VMM
// carry it out. KVM carries it out itself: for a load it waits for the data, with the registers of before; for a store
// it waits for nothing and mostly shows the registers of after (Linux's Documentation/virt/kvm/api.rst, KVM_RUN). So
// the instruction is ended at once with zeros for data, and then undone.

#if os(Linux) && arch(x86_64)
    import CKVM
    import Glibc
    import NVMM
    import SoftBackend

    final class UnfinishedAccess {
        private let finder = InstructionFinder()
        /// No instruction makes more accesses that exit: 512 bytes of FXSAVE in pieces of 8, with room.
        private static let accessesMax = 256
        private var notFound: UInt64 = 0

        var counters: [Counter] { notFound == 0 ? [] : [Counter(name: "instructions not found", value: notFound)] }

        /// Whether the instruction at `rip` is HLT.
        func isHalt(at rip: UInt64, _ vcpu: KVMVCPU) -> Bool {
            finder.look(at: vcpu)
            return finder.firstByte(at: rip, vcpu.registers) == 0xF4
        }

        /// Puts the VCPU before the instruction that exited.
        ///
        /// - Returns: the exit as NVMM has it; INVALID where the instruction could not be found.
        func finish(_ vcpu: KVMVCPU) -> ExitReason {
            let access = GuestAccess(vcpu.file)
            let shown = vcpu.registers
            finder.look(at: vcpu)
            let loading = access.isStore ? nil : finder.instruction(at: shown, making: access)
            let kept = KeptMemory(loading?.written ?? [], of: vcpu.machine)
            complete(vcpu)
            let after = vcpu.file.registers
            kept.putBack()
            let before: FoundInstruction?
            if access.isMSR || !access.isStore {
                before = loading
            } else if after.regs.rip != shown.regs.rip {
                // An exit that hardware made: the store was not even begun.
                before = finder.instruction(at: shown, making: access)
            } else {
                before = finder.instruction(endingIn: shown, making: access)
            }
            guard let reason = access.reason(of: before, nextRIP: after.regs.rip) else {
                notFound += 1
                vcpu.registers = after
                return .invalid(hardwareCode: UInt64(access.exitReason))
            }
            vcpu.registers = before?.registers ?? shown
            // The events of an exit belong to it; whatever the zeros led to is undone.
            vcpu.registers.events.flags = UInt32(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW)
            vcpu.registers.sregs.interrupt_bitmap = (0, 0, 0, 0)
            vcpu.changed |= UInt64(KVM_SYNC_X86_REGS)
            if !shown.systemIsSame(as: after) { vcpu.changed |= UInt64(KVM_SYNC_X86_SREGS) }
            if !shown.eventsAreSame(as: after) { vcpu.changed |= UInt64(KVM_SYNC_X86_EVENTS) }
            return reason
        }

        /// Later accesses of the same instruction exit again; none executes another instruction.
        private func complete(_ vcpu: KVMVCPU) {
            for _ in 0..<Self.accessesMax {
                vcpu.file.answerWithZeros()
                guard vcpu.file.complete() == 0 else { return }
                switch vcpu.file.exitReason {
                case KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR: continue
                default: return
                }
            }
        }
    }

    /// What an exit asked for.
    struct GuestAccess {
        enum Place: Equatable {
            case port(UInt16, byteCount: UInt8, count: Int)
            case memory(GPA, byteCount: Int, value: UInt64)
            case msr(UInt32, value: UInt64)
        }

        let place: Place
        let isStore: Bool
        let exitReason: Int32

        init(_ file: KVMVCPUFile) {
            exitReason = file.exitReason
            switch exitReason {
            case KVM_EXIT_IO:
                let io = file.portAccess
                place = .port(io.port, byteCount: io.size, count: Int(io.count))
                isStore = io.direction == UInt8(KVM_EXIT_IO_OUT)
            case KVM_EXIT_MMIO:
                let access = file.memoryAccess
                let count = min(Int(access.byte_count), 8)
                var value: UInt64 = 0
                unsafe withUnsafeBytes(of: access.data) { data in
                    for index in (0..<count).reversed() { value = unsafe value << 8 | UInt64(data[index]) }
                }
                place = .memory(GPA(access.gpa), byteCount: count, value: value)
                isStore = access.is_write != 0
            default:
                place = .msr(file.msr, value: file.msrValue)
                isStore = exitReason == KVM_EXIT_X86_WRMSR
            }
        }

        var isMSR: Bool {
            if case .msr = place { true } else { false }
        }

        /// - Parameter nextRIP: RIP once the instruction is done.
        func reason(of instruction: FoundInstruction?, nextRIP: UInt64) -> ExitReason? {
            switch place {
            case .msr(let number, let value):
                return isStore
                    ? .writeMSR(MSRWriteExit(msr: number, value: value, npc: nextRIP))
                    : .readMSR(MSRReadExit(msr: number, npc: nextRIP))
            case .port: return instruction?.port.map(ExitReason.io)
            case .memory(let gpa, _, _):
                return instruction.map { found in
                    .memory(MemoryExit(access: isStore ? .write : .read, gpa: gpa, instruction: found.bytes))
                }
            }
        }
    }

    /// Guest memory that ending an instruction with zeros will overwrite.
    private struct KeptMemory {
        private let machine: KVMMachine
        private var kept: [(object: MemoryObject, offset: Int, bytes: [UInt8])] = []

        init(_ written: [FoundInstruction.Store], of machine: KVMMachine) {
            self.machine = machine
            for store in written {
                guard let place = machine.memory.place(of: store.gpa), place.protection.contains(.write) else {
                    continue
                }
                let count = min(store.byteCount, place.object.byteCount - place.offset)
                let bytes = place.object.withBytes(place.offset..<place.offset + count) { span in
                    // SAFETY: the indices are those of the span.
                    (0..<count).map { unsafe span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
                }
                kept.append((place.object, place.offset, bytes))
            }
        }

        func putBack() {
            // In the order of before the first of two stores to the same place.
            for part in kept.reversed() { try? machine.write(part.object, at: part.offset, part.bytes) }
        }
    }

    extension kvm_sync_regs {
        fileprivate func systemIsSame(as other: kvm_sync_regs) -> Bool {
            unsafe withUnsafeBytes(of: sregs) { mine in
                unsafe withUnsafeBytes(of: other.sregs) { theirs in unsafe mine.elementsEqual(theirs) }
            }
        }
        fileprivate func eventsAreSame(as other: kvm_sync_regs) -> Bool {
            unsafe withUnsafeBytes(of: events) { mine in
                unsafe withUnsafeBytes(of: other.events) { theirs in unsafe mine.elementsEqual(theirs) }
            }
        }
    }
#endif
