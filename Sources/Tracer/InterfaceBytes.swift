// The interface's C structures as the shim copied them: offsets and values are those of Docs/nvmm-abi.md.

internal import NVMM

/// Bytes that a record holds; reads outside of them give 0, and the record's length is checked before.
struct InterfaceBytes {
    let bytes: ArraySlice<UInt8>
    init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    func value<Value: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _: Value.Type = Value.self) -> Value {
        var result: Value = 0
        for index in 0..<MemoryLayout<Value>.size {
            let place = bytes.startIndex + offset + index
            guard place < bytes.endIndex else { break }
            result |= Value(truncatingIfNeeded: bytes[place]) << (8 * index)
        }
        return result
    }

    func has(_ offset: Int) -> Bool { value(offset, UInt8.self) != 0 }
}

extension VCPUExit {
    /// `struct nvmm_x86_exit`, 64 bytes.
    ///
    /// - Returns: nil for reasons that NVMM does not have.
    init?(_ bytes: InterfaceBytes) {
        let exitReason: ExitReason
        let code = bytes.value(0, UInt64.self)
        switch code {
        case 0x0: exitReason = .none
        case 0x1:
            exitReason = .memory(
                MemoryExit(
                    access: Protection(rawValue: UInt64(bytes.value(8, UInt32.self)) & 7), gpa: GPA(bytes.value(16)),
                    instruction: InstructionBytes(
                        count: bytes.value(24), low: bytes.value(25),
                        high: UInt64(bytes.value(33, UInt32.self)) | UInt64(bytes.value(37, UInt16.self)) << 32
                            | UInt64(bytes.value(39, UInt8.self)) << 48)))
        case 0x2:
            exitReason = .io(
                IOExit(
                    isInput: bytes.has(8), port: bytes.value(10),
                    segment: SegmentRegister(rawValue: Int(Int8(bitPattern: bytes.value(12)))).flatMap {
                        $0.rawValue <= SegmentRegister.gs.rawValue ? $0 : nil
                    }, addressBytes: bytes.value(13), operandBytes: bytes.value(14), isRepeated: bytes.has(15),
                    isString: bytes.has(16), npc: bytes.value(24)))
        case 0x1000: exitReason = .shutdown
        case 0x1001: exitReason = .interruptReady
        case 0x1002: exitReason = .nmiReady
        case 0x1003: exitReason = .halted
        case 0x1004: exitReason = .tprChanged
        case 0x2000: exitReason = .readMSR(MSRReadExit(msr: bytes.value(8), npc: bytes.value(16)))
        case 0x2001:
            exitReason = .writeMSR(
                MSRWriteExit(msr: bytes.value(8), value: bytes.value(16), npc: bytes.value(24)))
        case 0x2002: exitReason = .monitor(npc: bytes.value(8))
        case 0x2003: exitReason = .mwait(npc: bytes.value(8))
        case 0x2004: exitReason = .cpuid(npc: bytes.value(8))
        case 0xFFFF_FFFF_FFFF_FFFE: exitReason = .stopped
        case 0xFFFF_FFFF_FFFF_FFFF: exitReason = .invalid(hardwareCode: bytes.value(8))
        default: return nil
        }
        self.init(
            reason: exitReason,
            state: ExitState(
                rflags: bytes.value(40), cr8: bytes.value(48),
                interrupt: InterruptState(rawValue: bytes.value(56, UInt64.self) & 0xF)))
    }
}

extension VCPUEvent {
    /// `struct nvmm_x86_event`, 16 bytes.
    init(_ bytes: InterfaceBytes) {
        self.init(kind: Kind(rawValue: bytes.value(0)), vector: bytes.value(4), errorCode: bytes.value(8))
    }
}

extension Capability {
    /// `struct nvmm_capability`, 104 bytes.
    init(_ bytes: InterfaceBytes, countsInstructions: Bool) {
        self.init(
            version: bytes.value(0), stateBytes: bytes.value(4), machinesMax: bytes.value(8),
            vcpusMax: bytes.value(12), memoryBytesMax: bytes.value(16), xcr0Mask: bytes.value(40),
            mxcsrMask: bytes.value(48), cpuidEntriesMax: bytes.value(52),
            offersTPRExits: bytes.value(32, UInt64.self) & 2 != 0, countsInstructions: countsInstructions)
    }
}

extension VCPUConfiguration {
    /// The structure of `NVMM_VCPU_CONF_CPUID` (200) or `NVMM_VCPU_CONF_TPR` (201); nil for others.
    init?(operation: UInt64, _ bytes: InterfaceBytes) {
        switch operation {
        case 200:
            func registers(_ offset: Int) -> CPUIDRegisters {
                CPUIDRegisters(
                    eax: bytes.value(offset), ebx: bytes.value(offset + 4), ecx: bytes.value(offset + 8),
                    edx: bytes.value(offset + 12))
            }
            let rule: CPUIDRule =
                switch bytes.value(0, UInt32.self) & 3 {
                case 1: .mask(set: registers(8), delete: registers(24))
                case 2: .exit
                default: .remove
                }
            self = .cpuid(leaf: bytes.value(4), rule)
        case 201: self = .tpr(exitOnChange: bytes.value(0, UInt32.self) & 1 != 0)
        default: return nil
        }
    }
}

extension VCPUState {
    /// Replaces `parts` by what stands in `bytes`, part after part without gaps.
    ///
    /// - Returns: false where the bytes are not exactly those.
    mutating func copy(_ parts: StateFlags, fromParts bytes: InterfaceBytes) -> Bool {
        var offset = 0
        withMutableWords { words in
            for part in VCPUState.parts where parts.contains(part) {
                for word in VCPUState.wordRange(of: part) {
                    words[word] = bytes.value(offset)
                    offset += 8
                }
            }
        }
        return offset == bytes.bytes.count
    }
}
