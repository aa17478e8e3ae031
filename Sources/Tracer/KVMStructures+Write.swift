// The other way round than KVMStructures: NVMM's words as <linux/kvm.h> has them.

internal import NVMM
internal import TraceFile

extension VCPUState {
    /// `struct kvm_regs`, `kvm_sregs` and `kvm_vcpu_events` one after the other: `RING_KVM_SYNC_BYTES`.
    func kvmRegisters(apicBase: UInt64) -> [UInt8] {
        var bytes = LittleEndianBytes()
        let order: [GPR] = [
            .rax, .rbx, .rcx, .rdx, .rsi, .rdi, .rsp, .rbp, .r8, .r9, .r10, .r11, .r12, .r13, .r14, .r15, .rip, .rflags,
        ]
        for register in order { bytes.append(self[register]) }
        let segments: [SegmentRegister] = [.cs, .ds, .es, .fs, .gs, .ss, .tr, .ldt]
        for register in segments { bytes.append(self[register].kvmSegment) }
        for register in [SegmentRegister.gdt, .idt] {
            bytes.append(self[register].base)
            bytes.append(UInt16(truncatingIfNeeded: self[register].limit))
            bytes.append(padding: 6)
        }
        for register in [CR.cr0, .cr2, .cr3, .cr4, .cr8] { bytes.append(self[register]) }
        bytes.append(self[.efer])
        bytes.append(apicBase)
        bytes.append(padding: 32)
        // Of the events only the shadow is known: KVM_X86_SHADOW_INT_STI.
        bytes.append(padding: 11)
        bytes.append(UInt8(interrupt.contains(.shadow) ? 2 : 0))
        bytes.append(padding: 52)
        return bytes.bytes
    }
}

extension Segment {
    /// `struct kvm_segment`, 24 bytes.
    fileprivate var kvmSegment: [UInt8] {
        var bytes = LittleEndianBytes()
        bytes.append(base)
        bytes.append(limit)
        bytes.append(selector)
        let bits = attributes.rawValue
        let isPresent = attributes.contains(.present)
        for (shift, mask) in [(0, 0xF), (7, 1), (5, 3), (10, 1), (4, 1), (9, 1), (11, 1), (8, 1)] {
            bytes.append(UInt8(truncatingIfNeeded: Int(bits) >> shift & mask))
        }
        bytes.append(UInt8(isPresent ? 0 : 1))
        bytes.append(padding: 1)
        return bytes.bytes
    }
}

/// What `struct kvm_run` shows of an exit.
struct KVMExitImage {
    /// Negative: an errno, which KVM_RUN returns.
    var result: Int32 = 0
    var reason: UInt32 = 0
    /// The beginning of the union, 64 bytes.
    var payload = [UInt8](repeating: 0, count: 64)
    /// What the guest wrote to a port.
    var data: [UInt8] = []

    /// - Parameter completion: what answered it, or what it wrote.
    init(_ exit: ExitReason, _ completion: Completion?) {
        var bytes = LittleEndianBytes()
        switch exit {
        case .io(let exit):
            reason = 2
            let size = max(Int(exit.operandBytes), 1)
            bytes.append(UInt8(exit.isInput ? 0 : 1))
            bytes.append(UInt8(size))
            bytes.append(exit.port)
            bytes.append(UInt32(max((completion?.bytes.count ?? size) / size, 1)))
            bytes.append(UInt64(4096))
            if !exit.isInput { data = completion?.bytes ?? [UInt8](repeating: 0, count: size) }
        case .memory(let exit):
            reason = 6
            bytes.append(exit.gpa.rawValue)
            let isWrite = exit.access.contains(.write)
            let written = Array((completion?.bytes ?? []).prefix(8))
            bytes.append(isWrite ? written : [])
            bytes.append(padding: 8 - (isWrite ? written.count : 0))
            bytes.append(UInt32(max(written.count, 1)))
            bytes.append(UInt8(isWrite ? 1 : 0))
        case .readMSR(let exit): (reason, bytes) = (29, Self.msr(exit.msr, 0))
        case .writeMSR(let exit): (reason, bytes) = (30, Self.msr(exit.msr, exit.value))
        case .halted: reason = 5
        case .interruptReady: reason = 7
        case .shutdown: reason = 8
        case .invalid(let code):
            reason = UInt32(truncatingIfNeeded: code)
            bytes.append(UInt32(truncatingIfNeeded: code >> 32))
        // EINTR, as where a signal came.
        default: result = -4
        }
        payload.replaceSubrange(0..<min(bytes.bytes.count, 64), with: bytes.bytes.prefix(64))
    }

    /// error, padding, reason, index, data; the reason is KVM_MSR_EXIT_REASON_FILTER.
    private static func msr(_ number: UInt32, _ value: UInt64) -> LittleEndianBytes {
        var bytes = LittleEndianBytes()
        bytes.append(padding: 8)
        bytes.append(UInt32(4))
        bytes.append(number)
        bytes.append(value)
        return bytes
    }
}
