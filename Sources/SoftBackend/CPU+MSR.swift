// RDMSR, WRMSR and RDTSC: the registers that NVMM's kernel side handles itself; every other one exits.

import NVMM

/// Numbers of model-specific registers: SDM vol. 4.
enum MSRNumber {
    static let tsc: UInt32 = 0x10
    static let sysenterCS: UInt32 = 0x174
    static let sysenterESP: UInt32 = 0x175
    static let sysenterEIP: UInt32 = 0x176
    static let pat: UInt32 = 0x277
    static let efer: UInt32 = 0xC000_0080
    static let star: UInt32 = 0xC000_0081
    static let lstar: UInt32 = 0xC000_0082
    static let cstar: UInt32 = 0xC000_0083
    static let sfmask: UInt32 = 0xC000_0084
    static let fsBase: UInt32 = 0xC000_0100
    static let gsBase: UInt32 = 0xC000_0101
    static let kernelGSBase: UInt32 = 0xC000_0102
}

extension CPU {
    /// Place in ``msrs`` of the registers that are nothing but storage.
    private func storage(of number: UInt32) -> MSR? {
        switch number {
        case MSRNumber.sysenterCS: .sysenterCS
        case MSRNumber.sysenterESP: .sysenterESP
        case MSRNumber.sysenterEIP: .sysenterEIP
        case MSRNumber.pat: .pat
        case MSRNumber.star: .star
        case MSRNumber.lstar: .lstar
        case MSRNumber.cstar: .cstar
        case MSRNumber.sfmask: .sfmask
        case MSRNumber.kernelGSBase: .kernelGSBase
        default: nil
        }
    }

    subscript(register: MSR) -> UInt64 {
        get { msrs[register.rawValue] }
        set { msrs[register.rawValue] = newValue }
    }

    mutating func rdmsr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard cpl == 0 else { throw .generalProtection(0) }
        let number: UInt32 = read(1)
        let value: UInt64
        switch number {
        case MSRNumber.tsc: value = readTimestamp(i)
        case MSRNumber.efer: value = efer
        case MSRNumber.fsBase: value = segments[SegmentRegister.fs.rawValue].base
        case MSRNumber.gsBase: value = segments[SegmentRegister.gs.rawValue].base
        default:
            guard let register = storage(of: number) else {
                pendingExit = .readMSR(MSRReadExit(msr: number, npc: nextRIP(i)))
                throw .exit
            }
            value = self[register]
        }
        write(0, value, width: 2)
        write(2, value >> 32, width: 2)
    }

    mutating func wrmsr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard cpl == 0 else { throw .generalProtection(0) }
        let number: UInt32 = read(1)
        let value = read(2, width: 2) << 32 | read(0, width: 2)
        switch number {
        case MSRNumber.tsc: tscOffset = value &- clockNow
        case MSRNumber.efer: try writeEFER(value)
        case MSRNumber.fsBase, MSRNumber.gsBase:
            guard value.isCanonical else { throw .generalProtection(0) }
            let register = number == MSRNumber.fsBase ? SegmentRegister.fs : .gs
            segments[register.rawValue].base = value
            updateSegmentCache(register.rawValue)
        case MSRNumber.pat:
            for byte in stride(from: UInt64(0), to: 64, by: 8) {
                // SDM vol. 3, table 11-10: memory types 0, 1 and 4 to 7.
                let type = value >> byte & 0xFF
                guard type <= 1 || 4...7 ~= type else { throw .generalProtection(0) }
            }
            self[.pat] = value
        case MSRNumber.lstar, MSRNumber.cstar, MSRNumber.kernelGSBase, MSRNumber.sysenterESP, MSRNumber.sysenterEIP:
            guard value.isCanonical else { throw .generalProtection(0) }
            if let register = storage(of: number) { self[register] = value }
        default:
            guard let register = storage(of: number) else {
                pendingExit = .writeMSR(MSRWriteExit(msr: number, value: value, npc: nextRIP(i)))
                throw .exit
            }
            self[register] = number == MSRNumber.sfmask || number == MSRNumber.sysenterCS ? value & 0xFFFF_FFFF : value
        }
    }

    /// SDM vol. 3, section 2.2.1: reserved bits and a change of LME under paging raise #GP(0); LMA is read-only.
    private mutating func writeEFER(_ value: UInt64) throws(Interruption) {
        guard value & ~(EFER.writable | EFER.lma) == 0 else { throw .generalProtection(0) }
        guard (value ^ efer) & EFER.lme == 0 || cr0 & CR0.pg == 0 else { throw .generalProtection(0) }
        if (value ^ efer) & EFER.nxe != 0 { flushTLB() }
        efer = value & EFER.writable | efer & EFER.lma
        updateMode()
    }

    mutating func rdtsc(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if cr4 & CR4.tsd != 0, cpl != 0 { throw .generalProtection(0) }
        let value = readTimestamp(i)
        write(0, value, width: 2)
        write(2, value >> 32, width: 2)
    }

    private mutating func readTimestamp(_ i: borrowing DecodedInstruction) -> UInt64 {
        timestampReads &+= 1
        timestampReadRIP = instructionRIP(i)
        return clockNow &+ tscOffset &+ (timestampDistortion == 0 ? 0 : distortion)
    }

    /// SplitMix64 of the read's number, whole or below a part that grows.
    private var distortion: UInt64 {
        var mixed = timestampDistortion &+ timestampReads &* 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 31
        return timestampDistortion & 1 == 0 ? mixed : timestampReads << 36 | mixed & 0xF_FFFF_FFFF
    }
}
