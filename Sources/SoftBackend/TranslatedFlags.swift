// Status flags while translated code runs: as the host's processor leaves them, with what the manual leaves undefined.

import NVMM

/// Of ``TranslatedFrame/Slot/flags``, the upper half: which flags are undefined, at their places in RFLAGS, and two
/// bits for AF, which the host's processor may leave otherwise than ``StatusFlags`` has it.
struct FlagMarks: OptionSet {
    var rawValue: UInt16
    /// AF is not the host's, but what ``auxiliary`` says.
    static let replacesAuxiliary = FlagMarks(rawValue: 1 << 3)
    static let auxiliary = FlagMarks(rawValue: 1 << 1)

    init(rawValue: UInt16) { self.rawValue = rawValue }
    init(undefined flags: UInt64) { rawValue = UInt16(truncatingIfNeeded: flags) }

    /// As AND, OR, XOR and TEST leave them.
    static let logical: FlagMarks = [.replacesAuxiliary, FlagMarks(undefined: RFLAGS.af)]
}

extension StatusFlags {
    /// As ``TranslatedFrame/Slot/flags`` has them.
    var translated: UInt64 {
        get {
            let flags = rflags
            return flags >> 11 & 1 | (flags & 0xD5) << 8 | undefined << 16
        }
        set {
            let marks = FlagMarks(rawValue: UInt16(truncatingIfNeeded: newValue >> 16))
            var flags = (newValue & 1) << 11 | newValue >> 8 & 0xD5
            if marks.contains(.replacesAuxiliary) {
                flags = flags & ~RFLAGS.af | (marks.contains(.auxiliary) ? RFLAGS.af : 0)
            }
            rflags = flags
            mark(undefined: UInt64(marks.rawValue) & RFLAGS.status)
        }
    }
}

/// What an instruction does with the status flags, and whether somebody may look at them in its middle.
struct FlagUse {
    enum Effect {
        /// Leaves them.
        case none
        /// Replaces all.
        case replaces
        /// Replaces some, so that it needs the others where anybody wants the result.
        case changes
    }
    var effect = Effect.none
    var reads = false
    /// It may be left to the interpreter at run time, which wants all flags.
    var mayLeave = false
}

extension InstructionRecord {
    var usesMemory: Bool { flags.contains(.memory) }

    /// The operation that ``Decoder/specialise(_:)`` found a narrower one for.
    var generalOperation: Operation {
        switch operation {
        case .addRegisterImmediate32, .addRegisterImmediate64, .addRegisterRegister32, .addRegisterRegister64,
            .addRegisterMemory32, .addRegisterMemory64:
            .add
        case .subRegisterImmediate32, .subRegisterImmediate64, .subRegisterRegister32, .subRegisterRegister64: .sub
        case .andRegisterImmediate32, .andRegisterImmediate64, .andRegisterRegister32, .andRegisterRegister64: .and
        case .orRegisterImmediate32, .orRegisterImmediate64, .orRegisterRegister32, .orRegisterRegister64: .or
        case .xorRegisterRegister32, .xorRegisterRegister64: .xor
        case .cmpRegisterImmediate8, .cmpRegisterImmediate32, .cmpRegisterImmediate64, .cmpRegisterRegister8,
            .cmpRegisterRegister32, .cmpRegisterRegister64, .cmpRegisterMemory32, .cmpRegisterMemory64,
            .cmpMemoryRegister32, .cmpMemoryRegister64, .cmpMemoryImmediate8, .cmpMemoryImmediate32:
            .cmp
        case .testRegisterImmediate8, .testRegisterImmediate32, .testRegisterImmediate64, .testRegisterRegister8,
            .testRegisterRegister32, .testRegisterRegister64:
            .test
        case .incRegister32, .incRegister64: .inc
        case .decRegister32, .decRegister64: .dec
        case .movRegisterRegister8, .movRegisterRegister32, .movRegisterRegister64, .movRegisterMemory8,
            .movRegisterMemory32, .movRegisterMemory64, .movMemoryRegister8, .movMemoryRegister32,
            .movMemoryRegister64, .movRegisterImmediate8, .movRegisterImmediate32, .movRegisterImmediate64,
            .movMemoryImmediate8, .movMemoryImmediate32, .movMemoryImmediate64:
            .mov
        case .movzxRegister8, .movzxMemory8, .movzxRegister16, .movzxMemory16: .movzx
        case .movsxdRegister, .movsxdMemory: .movsx
        case .lea32, .lea64: .lea
        case .pushRegister32, .pushRegister64: .push
        case .popRegister32, .popRegister64: .pop
        case .shlRegisterImmediate32, .shlRegisterImmediate64: .shl
        case .shrRegisterImmediate32, .shrRegisterImmediate64: .shr
        case .sarRegisterImmediate32, .sarRegisterImmediate64: .sar
        case .jc, .jnc, .jz, .jnz, .jbe, .jnbe, .js, .jns, .jl, .jnl, .jle, .jnle: .jcc
        case .jmpRelative: .jmp
        case .callRelative32, .callRelative64: .call
        case .ret32, .ret64: .ret
        default: operation
        }
    }

    /// Of an instruction that is translated.
    var flagUse: FlagUse {
        var use = FlagUse()
        use.mayLeave = usesMemory
        switch generalOperation {
        case .add, .or, .and, .sub, .xor, .cmp, .test, .neg, .imul2, .imul3, .mul, .imul, .xadd, .cmpxchg, .bsf, .bsr:
            use.effect = .replaces
        case .adc, .sbb:
            use.effect = .replaces
            use.reads = true
        case .shl, .shr, .sar: use.effect = form == .registerRegister ? .changes : .replaces
        case .inc, .dec, .rol, .ror, .bt, .bts, .btr, .btc: use.effect = .changes
        case .cmov, .setcc: use.reads = true
        case .div:
            use.effect = .changes
            use.mayLeave = true
        case .vector, .rdtsc, .jcc, .jmp, .call, .ret, .push, .pop, .leave: use.mayLeave = true
        case .lea: use.mayLeave = false
        default: break
        }
        return use
    }
}
