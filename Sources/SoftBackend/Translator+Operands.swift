// Operands of translated instructions: where registers are, how memory is reached, how flags are kept.

import NVMM

// MARK: - What is translated

extension Translator {
    /// Whether translated code does what this instruction does. All others are the interpreter's.
    static func translates(_ i: InstructionRecord) -> Bool {
        guard !i.flags.contains(.rep), !i.flags.contains(.repne) else { return false }
        let isWide = i.width >= 2
        switch i.generalOperation {
        case .add, .or, .adc, .sbb, .and, .sub, .xor, .cmp, .test, .inc, .dec, .not, .neg: return true
        case .shl, .shr, .sar:
            return i.form == .registerRegister ? isWide : shiftsWithinWidth(i)
        case .rol, .ror:
            return isWide && i.form == .registerImmediate && shiftsWithinWidth(i)
        case .imul2, .imul3, .mul, .imul, .div: return isWide
        case .bt, .bts, .btr, .btc: return isWide && i.form != .memoryRegister
        case .bsf, .bsr: return isWide
        case .mov: return true
        case .movzx: return isWide
        case .movsx: return isWide && i.width1 < i.width
        case .lea: return isWide
        case .xchg: return !usesHighByte(i)
        case .xadd, .cmpxchg: return i.form == .memoryRegister && !usesHighByte(i)
        case .cmov: return isWide
        case .setcc: return !usesHighByte(i)
        case .bswap, .cbw, .cwd: return isWide
        case .push: return i.width == 3
        case .pop: return i.width == 3 && i.form == .register
        case .leave: return i.width == 3
        case .vector: return translatesVector(i)
        case .jcc, .nop, .fence, .rdtsc: return true
        case .jmp, .call: return true
        case .ret: return true
        default: return false
        }
    }

    private static func usesHighByte(_ i: InstructionRecord) -> Bool {
        i.width == 0 && (i.register0 | i.register1) & RegisterNumber.highByte != 0
    }

    /// By an immediate that is neither zero nor more than the operand is wide.
    private static func shiftsWithinWidth(_ i: InstructionRecord) -> Bool {
        guard i.form == .registerImmediate || i.form == .memoryImmediate else { return false }
        let count = i.immediate & (i.width == 3 ? 63 : 31)
        return count != 0 && count < 8 << UInt64(i.width)
    }
}

// MARK: - Registers

extension Translator {
    /// A register of the guest, 0 to 15.
    func place(_ register: UInt8) -> HostOperand {
        TranslatedFrame.hostRegister(register).map(HostOperand.register) ?? TranslatedFrame.slot(register)
    }

    func isHighByte(_ register: UInt8, _ width: UInt8) -> Bool {
        width == 0 && register & RegisterNumber.highByte != 0
    }

    /// The host's register that holds a guest's, where an instruction may name it as an operand of this width.
    func direct(_ register: UInt8, width: UInt8) -> UInt8? {
        isHighByte(register, width) ? nil : TranslatedFrame.hostRegister(register)
    }

    /// Reads a guest register, zero-extended, into one of the translator's. Flags stay.
    mutating func read(_ register: UInt8, into host: UInt8, width: UInt8) {
        if isHighByte(register, width) {
            code.load(host, place(register & 3), width: 2)
            // AH, CH, DH or BH: without a REX prefix these are 4 to 7.
            code.byte(0x0F)
            code.byte(0xB6)
            code.byte(0xC0 | host << 3 | (host + 4))
        } else if width < 2 {
            code.extendZero(host, place(register), sourceWidth: width)
        } else {
            code.load(host, place(register), width: width)
        }
    }

    /// A guest register that the host's instruction may name as such; else it is read into `scratch`.
    mutating func source(_ register: UInt8, width: UInt8, scratch: UInt8) -> UInt8 {
        if let host = direct(register, width: width) { return host }
        read(register, into: scratch, width: width)
        return scratch
    }

    /// Writes a guest register from one of the host's: 32 bits clear the upper half, fewer leave the rest.
    ///
    /// - Parameter host: of 32 bits, with its upper half clear.
    mutating func write(_ register: UInt8, from host: UInt8, width: UInt8) {
        if isHighByte(register, width) {
            let whole = place(register & 3)
            code.shift(.ror, whole, by: 8, width: 3)
            code.store(whole, host, width: 0)
            code.shift(.rol, whole, by: 8, width: 3)
            flagsAreInPlace = false
        } else {
            code.store(place(register), host, width: width == 2 ? 3 : width)
        }
    }
}

// MARK: - Memory

extension Translator {
    /// Puts the operand's offset into `host`: RAX, RCX or RDX, of which RCX is used besides. Flags stay.
    mutating func offset(_ i: InstructionRecord, into host: UInt8) {
        let rcx = HostRegister.rcx
        let displacement = Int64(bitPattern: i.displacement)
        if i.base == RegisterNumber.blockRIP || i.base == RegisterNumber.none && i.index == RegisterNumber.none {
            let base = i.base == RegisterNumber.blockRIP ? rip : 0
            code.move(host, (base &+ i.displacement) & i.addressMask)
            return
        }
        var base: UInt8?
        if i.base != RegisterNumber.none {
            base = TranslatedFrame.hostRegister(i.base) ?? host
            if base == host { code.load(host, TranslatedFrame.slot(i.base)) }
        }
        var index: UInt8?
        if i.index != RegisterNumber.none {
            index = TranslatedFrame.hostRegister(i.index) ?? rcx
            if index == rcx { code.load(rcx, TranslatedFrame.slot(i.index)) }
        }
        let short = Int32(exactly: displacement)
        if let index {
            code.lea(host, .indexed(base: base, index: index, scale: i.scale, displacement: short ?? 0))
        } else if let base {
            code.lea(host, .memory(base: base, displacement: short ?? 0))
        }
        if short == nil {
            code.move(rcx, i.displacement)
            code.lea(host, .indexed(base: host, index: rcx, scale: 0, displacement: 0))
        }
        if i.addressMask != .max { code.load(host, .register(host), width: 2) }
    }

    /// Leaves the host address of the memory operand in RAX, or leaves the instruction to the interpreter. RCX and RDX
    /// are used.
    mutating func access(_ i: InstructionRecord, bytes: UInt64, _ kind: AccessKind) {
        linear(i)
        look(bytes: bytes, kind)
    }

    /// Puts the linear address of the memory operand into RAX.
    mutating func linear(_ i: InstructionRecord) {
        offset(i, into: HostRegister.rax)
        if i.segment == SegmentRegister.fs.rawValue {
            code.arithmetic(.add, HostRegister.rax, TranslatedFrame.slot(.fsBase), width: 3)
        } else if i.segment == SegmentRegister.gs.rawValue {
            code.arithmetic(.add, HostRegister.rax, TranslatedFrame.slot(.gsBase), width: 3)
        }
        flagsAreInPlace = false
    }

    /// From the linear address in RAX, as ``TLB/look(_:byteCount:_:)``.
    mutating func look(bytes: UInt64, _ kind: AccessKind) {
        let (rax, rcx, rdx) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx)
        flagsAreInPlace = false
        // The address of the entry, which has 16 bytes.
        code.load(rcx, .register(rax), width: 2)
        code.shift(.shr, .register(rcx), by: 8, width: 2)
        code.arithmetic(.and, .register(rcx), constant: UInt64(TLB.entryCount - 1) << 4, width: 2)
        code.arithmetic(.add, rcx, TranslatedFrame.slot(kind == .write ? .writeTLB : .readTLB), width: 3)
        // The page of the last byte: where that is another, its entry is in another place.
        if bytes > 1 {
            code.lea(rdx, .memory(base: rax, displacement: Int32(bytes - 1)))
        } else {
            code.load(rdx, .register(rax))
        }
        code.arithmetic(.and, .register(rdx), constant: ~0xFFF, width: 3)
        code.arithmetic(.cmp, rdx, .memory(base: rcx, displacement: 0), width: 3)
        leaveLater(code.jump(HostCondition.notZero))
        code.arithmetic(.add, rax, .memory(base: rcx, displacement: 8), width: 3)
    }

    static var found: HostOperand { .memory(base: HostRegister.rax, displacement: 0) }
}

// MARK: - Flags

extension Translator {
    /// Keeps the flags that the host's last instruction left, where anybody may look at them. RAX is used; the flags
    /// stay in place.
    mutating func keepFlags(_ marks: FlagMarks) {
        flagsAreInPlace = true
        guard flagsAreWanted[position] else { return }
        code.lahf()
        code.setByte(HostCondition.overflow, .register(HostRegister.rax))
        code.store(TranslatedFrame.slot(.flags), HostRegister.rax, width: 1)
        keepMarks(marks)
    }

    mutating func keepMarks(_ marks: FlagMarks) {
        guard knownMarks != marks else { return }
        knownMarks = marks
        code.store(TranslatedFrame.marks, constant: UInt64(marks.rawValue), width: 1)
    }

    /// For instructions that leave some flags as they were.
    mutating func changeMarks(clear: FlagMarks, set: FlagMarks) {
        if let knownMarks { return keepMarks(knownMarks.subtracting(clear).union(set)) }
        let kept = UInt64(~clear.rawValue)
        if clear.rawValue != 0 { code.arithmetic(.and, TranslatedFrame.marks, constant: kept, width: 1) }
        if set.rawValue != 0 { code.arithmetic(.or, TranslatedFrame.marks, constant: UInt64(set.rawValue), width: 1) }
        flagsAreInPlace = false
    }

    /// Puts the guest's flags into the host's. RAX is used.
    mutating func placeFlags() {
        guard !flagsAreInPlace else { return }
        code.extendZero(HostRegister.rax, TranslatedFrame.slot(.flags), sourceWidth: 1)
        // 1 + 127 overflows.
        code.arithmetic(.add, .register(HostRegister.rax), constant: 0x7F, width: 0)
        code.sahf()
        flagsAreInPlace = true
    }

    /// The memory operand of ``access(_:bytes:_:)``, which moves to RDX, with the guest's flags in place.
    mutating func foundWithFlags() -> HostOperand {
        code.load(HostRegister.rdx, .register(HostRegister.rax))
        placeFlags()
        return .memory(base: HostRegister.rdx, displacement: 0)
    }

    /// As ``CPU/noteUndefinedFlags(of:)``. RAX is used where RIP does not fit 32 bits; flags stay.
    mutating func noteUndefinedFlags(_ i: InstructionRecord) { storeRIP(of: i, .undefinedFlagsRIP) }

    mutating func storeRIP(of i: InstructionRecord, _ slot: TranslatedFrame.Slot) {
        let address = rip &+ UInt64(i.offset)
        if Int32(exactly: Int64(bitPattern: address)) != nil {
            code.store(TranslatedFrame.slot(slot), constant: address, width: 3)
        } else {
            code.move(HostRegister.rax, address)
            code.store(TranslatedFrame.slot(slot), HostRegister.rax)
        }
    }
}
