// The structures of <linux/kvm.h> for x86 as the shim copied them, in NVMM's words. Offsets: Linux's
// arch/x86/include/uapi/asm/kvm.h and include/uapi/linux/kvm.h.

internal import CRing
internal import NVMM
internal import TraceFile

/// Numbers of `ioctl` requests, as <linux/kvm.h> makes them.
enum KVMRequest {
    static let checkExtension: UInt32 = 0xAE03
    static let createVCPU: UInt32 = 0xAE41
    static let createInterruptController: UInt32 = 0xAE60
    static let interruptFileDescriptor: UInt32 = 0x4020_AE76
    static let createTimer: UInt32 = 0x4040_AE77
    static let eventFileDescriptor: UInt32 = 0x4040_AE79
    static let enableCapability: UInt32 = 0x4068_AEA3
    static let getRegisters: UInt32 = 0x8090_AE81
    static let setRegisters: UInt32 = 0x4090_AE82
    static let getSystemRegisters: UInt32 = 0x8138_AE83
    static let setSystemRegisters: UInt32 = 0x4138_AE84
    static let getSystemRegisters2: UInt32 = 0x8140_AECC
    static let setSystemRegisters2: UInt32 = 0x4140_AECD
    static let interrupt: UInt32 = 0x4004_AE86
    static let getMSRs: UInt32 = 0xC008_AE88
    static let setMSRs: UInt32 = 0x4008_AE89
    static let getFPU: UInt32 = 0x81A0_AE8C
    static let setFPU: UInt32 = 0x41A0_AE8D
    static let setCPUID2: UInt32 = 0x4008_AE90
    static let nmi: UInt32 = 0xAE9A
    static let getEvents: UInt32 = 0x8040_AE9F
    static let setEvents: UInt32 = 0x4040_AEA0
    static let getDebugRegisters: UInt32 = 0x8080_AEA1
    static let setDebugRegisters: UInt32 = 0x4080_AEA2
    static let getXSave: UInt32 = 0x9000_AEA4
    static let setXSave: UInt32 = 0x5000_AEA5
    static let getXCRs: UInt32 = 0x8188_AEA6
    static let setXCRs: UInt32 = 0x4188_AEA7

    /// Parts that a request reads or writes; empty for those that are about something else.
    static func parts(of request: UInt32) -> (StateFlags, CallRecord.Kind) {
        switch request {
        case getRegisters: (.gprs, .getState)
        case setRegisters: (.gprs, .setState)
        case getSystemRegisters, getSystemRegisters2: ([.segments, .crs], .getState)
        case setSystemRegisters, setSystemRegisters2: ([.segments, .crs], .setState)
        case getMSRs: (.msrs, .getState)
        case setMSRs: (.msrs, .setState)
        case getFPU, getXSave: (.fpu, .getState)
        case setFPU, setXSave: (.fpu, .setState)
        case getEvents: (.interrupt, .getState)
        case setEvents: (.interrupt, .setState)
        case getDebugRegisters: (.drs, .getState)
        case setDebugRegisters: (.drs, .setState)
        case getXCRs: (.crs, .getState)
        case setXCRs: (.crs, .setState)
        default: ([], .getState)
        }
    }
}

extension VCPUState {
    /// `struct kvm_regs`, 144 bytes.
    mutating func take(registers bytes: InterfaceBytes) {
        let order: [GPR] = [
            .rax, .rbx, .rcx, .rdx, .rsi, .rdi, .rsp, .rbp, .r8, .r9, .r10, .r11, .r12, .r13, .r14, .r15, .rip, .rflags,
        ]
        for (index, register) in order.enumerated() { self[register] = bytes.value(index * 8) }
    }

    /// `struct kvm_sregs` or `struct kvm_sregs2`: equal up to EFER.
    mutating func take(systemRegisters bytes: InterfaceBytes) {
        let order: [SegmentRegister] = [.cs, .ds, .es, .fs, .gs, .ss, .tr, .ldt]
        for (index, register) in order.enumerated() { self[register] = Segment(kvm: bytes, at: index * 24) }
        for (index, register) in [SegmentRegister.gdt, .idt].enumerated() {
            let place = 192 + index * 16
            self[register] = Segment(limit: UInt32(bytes.value(place + 8, UInt16.self)), base: bytes.value(place))
        }
        for (index, register) in [CR.cr0, .cr2, .cr3, .cr4, .cr8].enumerated() {
            self[register] = bytes.value(224 + index * 8)
        }
        self[.efer] = bytes.value(264)
    }

    /// `struct kvm_vcpu_events`, 64 bytes.
    ///
    /// - Parameter withPending: whether an event that waits for its delivery is part of the state.
    mutating func take(events bytes: InterfaceBytes, withPending: Bool) {
        // KVM_X86_SHADOW_INT_STI and _MOV_SS are one bit here.
        interrupt = bytes.has(11) ? .shadow : []
        // Exceptions injected or pending, interrupts injected, NMIs injected or pending.
        if withPending, [0, 3, 8, 12, 13].contains(where: bytes.has) { interrupt.insert(.eventPending) }
    }

    /// `struct kvm_fpu`, 416 bytes.
    mutating func take(fpu bytes: InterfaceBytes) {
        for register in 0..<8 {
            for index in 0..<16 { fpu.x87[register][index] = bytes.value(register * 16 + index) }
        }
        fpu.controlWord = bytes.value(128)
        fpu.statusWord = bytes.value(130)
        fpu.tagByte = bytes.value(132)
        fpu.lastOpcode = bytes.value(134)
        fpu.instructionPointer = bytes.value(136)
        fpu.dataPointer = bytes.value(144)
        for register in 0..<16 {
            for index in 0..<16 { fpu.xmm[register][index] = bytes.value(152 + register * 16 + index) }
        }
        fpu.mxcsr = bytes.value(408)
    }

    /// `struct kvm_xsave`: its first 512 bytes are an FXSAVE image.
    mutating func take(xsave bytes: InterfaceBytes) {
        withMutableWords { words in
            for (index, word) in VCPUState.wordRange(of: .fpu).enumerated() { words[word] = bytes.value(index * 8) }
        }
    }

    /// `struct kvm_debugregs`.
    mutating func take(debugRegisters bytes: InterfaceBytes) {
        for (index, register) in [DR.dr0, .dr1, .dr2, .dr3, .dr6, .dr7].enumerated() {
            self[register] = bytes.value(index * 8)
        }
    }

    /// `struct kvm_xcrs`: XCR0 is the first.
    mutating func take(xcrs bytes: InterfaceBytes) {
        for index in 0..<Int(min(bytes.value(0, UInt32.self), 16)) where bytes.value(8 + index * 16, UInt32.self) == 0 {
            self[.xcr0] = bytes.value(16 + index * 16)
        }
    }

    /// `struct kvm_msrs`, the first `count` entries.
    ///
    /// - Returns: those that are not part of the state.
    mutating func take(msrs bytes: InterfaceBytes, count: Int) -> [(msr: UInt32, value: UInt64)] {
        var others: [(UInt32, UInt64)] = []
        for index in 0..<min(count, (bytes.bytes.count - 8) / 16) {
            let msr: UInt32 = bytes.value(8 + index * 16)
            let value: UInt64 = bytes.value(16 + index * 16)
            switch msr {
            case 0xC000_0080: self[.efer] = value
            case 0xC000_0081: self[.star] = value
            case 0xC000_0082: self[.lstar] = value
            case 0xC000_0083: self[.cstar] = value
            case 0xC000_0084: self[.sfmask] = value
            case 0xC000_0102: self[.kernelGSBase] = value
            case 0x174: self[.sysenterCS] = value
            case 0x175: self[.sysenterESP] = value
            case 0x176: self[.sysenterEIP] = value
            case 0x277: self[.pat] = value
            case 0x10: self[.tsc] = value
            default: others.append((msr, value))
            }
        }
        return others
    }
}

extension Segment {
    /// `struct kvm_segment`, 24 bytes: base, limit, selector, then a byte each of type, present, DPL, DB, S, L, G, AVL,
    /// unusable.
    init(kvm bytes: InterfaceBytes, at place: Int) {
        var bits: UInt16 = bytes.value(place + 14, UInt8.self).asWord & 0xF
        let fields: [(offset: Int, shift: UInt16, mask: UInt16)] = [
            (15, 7, 1), (16, 5, 3), (17, 10, 1), (18, 4, 1), (19, 9, 1), (20, 11, 1), (21, 8, 1),
        ]
        for field in fields {
            bits |= (bytes.value(place + field.offset, UInt8.self).asWord & field.mask) << field.shift
        }
        if bytes.has(place + 22) { bits &= ~SegmentAttributes.present.rawValue }
        self.init(
            selector: bytes.value(place + 12), attributes: SegmentAttributes(rawValue: bits),
            limit: bytes.value(place + 8), base: bytes.value(place))
    }
}

extension UInt8 {
    fileprivate var asWord: UInt16 { UInt16(self) }
}

/// What `struct kvm_run` says of an exit: the beginning of its union.
struct KVMExit {
    var reason: ExitReason
    /// The access that the exit asked for; nil for exits that ask nothing.
    var access: (kind: Completion.Kind, address: UInt64, elementBytes: UInt8, byteCount: Int)?
    /// Of a write, where it stands in the union itself.
    var written: [UInt8] = []

    /// - Parameters:
    ///   - reason: `KVM_EXIT_*`.
    ///   - rip: what the registers say; KVM does not tell where the instruction ends.
    init(reason: UInt32, payload: InterfaceBytes, rip: UInt64) {
        switch reason {
        case 2:
            let isInput = payload.value(0, UInt8.self) == 0
            let size: UInt8 = payload.value(1)
            let port: UInt16 = payload.value(2)
            let count: UInt32 = payload.value(4)
            self.reason = .io(
                IOExit(
                    isInput: isInput, port: port, addressBytes: 0, operandBytes: size, isRepeated: count > 1,
                    isString: count > 1, npc: rip))
            access = (
                isInput ? .portRead : .portWrite, UInt64(port), min(max(size, 1), 8),
                Int(size) * Int(min(count, 65536))
            )
        case 5: self.reason = .halted
        case 6:
            let length = Int(min(payload.value(16, UInt32.self), 8))
            let isWrite = payload.has(20)
            let gpa: UInt64 = payload.value(0)
            self.reason = .memory(MemoryExit(access: isWrite ? .write : .read, gpa: GPA(gpa)))
            access = (isWrite ? .memoryWrite : .memoryRead, gpa, UInt8(max(length, 1)), length)
            if isWrite { written = (0..<length).map { payload.value(8 + $0) } }
        case 7: self.reason = .interruptReady
        case 8: self.reason = .shutdown
        case 10: self.reason = .none
        case 29:
            let msr: UInt32 = payload.value(12)
            self.reason = .readMSR(MSRReadExit(msr: msr, npc: rip))
            access = (.msrRead, UInt64(msr), 8, 8)
        case 30:
            let msr: UInt32 = payload.value(12)
            let value: UInt64 = payload.value(16)
            self.reason = .writeMSR(MSRWriteExit(msr: msr, value: value, npc: rip))
            access = (.msrWrite, UInt64(msr), 8, 8)
            written = (0..<8).map { payload.value(16 + $0) }
        // An internal error names itself; other reasons are none of NVMM's.
        default: self.reason = .invalid(hardwareCode: UInt64(reason) | payload.value(0, UInt32.self).shifted)
        }
    }
}

extension UInt32 {
    /// An internal error's kind stands beside the reason.
    fileprivate var shifted: UInt64 { UInt64(self) << 32 }
}
