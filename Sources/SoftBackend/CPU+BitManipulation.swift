// POPCNT, LZCNT, MOVBE, BMI1, BMI2 and ADX: SDM vol. 2. Operands of those that VEX encodes: register 0 is the
// destination, the operand of ModRM.rm is named `source`, VEX.vvvv's `third`.

import NVMM

extension CPU {
    // MARK: Operands

    /// The operand of ModRM.rm: memory, or this register.
    @inline(__always) private mutating func source<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, or register: UInt8
    ) throws(Interruption) -> T {
        i.flags.contains(.memory) ? try loadOperand(i) : read(register)
    }

    /// VEX.vvvv where it stands behind ModRM.rm: after a memory operand it is the second register, else the third.
    @inline(__always) private func third<T: OperandWidth>(_ i: borrowing DecodedInstruction) -> T {
        read(i.flags.contains(.memory) ? i.register1 : i.register2)
    }

    /// SDM vol. 2, 2.3: VEX prefixes are not recognised in real-address and virtual-8086 mode.
    func requireVEX() throws(Interruption) {
        if hasRealSegments { throw .invalidOpcode }
    }

    /// As AND leaves them, with CF; `undefined` beside AF.
    private mutating func setFlags<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ result: T, carry: Bool, undefined: UInt64 = RFLAGS.pf
    ) {
        noteUndefinedFlags(of: i)
        status.setLogical(result: result)
        status.set(carry: carry)
        status.mark(undefined: RFLAGS.af | undefined)
    }

    // MARK: Legacy encodings

    @inline(__always) private mutating func movbe<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        if i.form == .registerMemory {
            write(i.register0, (try loadOperand(i) as T).byteSwapped)
        } else {
            try storeOperand(i, read(i.register0, as: T.self).byteSwapped)
        }
    }

    @inline(never) mutating func movbe(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 1: try movbe(i, UInt16.self)
        case 2: try movbe(i, UInt32.self)
        default: try movbe(i, UInt64.self)
        }
    }

    /// CRC-32C of one operand more, its lowest bit first: SDM vol. 2, CRC32.
    @inline(never) mutating func crc32(_ i: borrowing DecodedInstruction) throws(Interruption) {
        var checksum = read(i.register0, as: UInt32.self)
        let value = try secondOperand(i, width: i.width1)
        for byte in UInt64(0)..<(1 << UInt64(i.width1)) {
            checksum ^= UInt32(truncatingIfNeeded: value >> (byte * 8)) & 0xFF
            for _ in 0..<8 { checksum = checksum >> 1 ^ (checksum & 1 != 0 ? 0x82F6_3B78 : 0) }
        }
        write(i.register0, checksum)
    }

    @inline(never) mutating func countBits(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let bits = 8 << UInt64(i.width) as UInt64
        let value = try secondOperand(i, width: i.width)
        let count: UInt64 =
            switch i.operation {
            case .popcnt: UInt64(truncatingIfNeeded: value.nonzeroBitCount)
            case .lzcnt: UInt64(truncatingIfNeeded: value.leadingZeroBitCount) &- (64 - bits)
            default: min(UInt64(truncatingIfNeeded: value.trailingZeroBitCount), bits)
            }
        write(i.register0, count, width: i.width)
        if i.operation == .popcnt {
            status.rflags = value == 0 ? RFLAGS.zf : 0
        } else {
            setFlags(i, count, carry: value == 0, undefined: RFLAGS.of | RFLAGS.sf | RFLAGS.pf)
        }
    }

    @inline(__always) private mutating func addCarrying<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let byCarry = i.operation == .adcx
        let source: T = try source(i, or: i.register1)
        let (sum, first) = source.addingReportingOverflow(read(i.register0))
        let (result, second) = sum.addingReportingOverflow((byCarry ? status.carry : status.overflow) ? 1 : 0)
        write(i.register0, result)
        if byCarry {
            status.set(carry: first || second)
        } else {
            status.set(carry: status.carry, overflow: first || second)
        }
    }

    @inline(never) mutating func addCarrying(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if i.width == 2 { try addCarrying(i, UInt32.self) } else { try addCarrying(i, UInt64.self) }
    }

    // MARK: BMI1 and BMI2

    @inline(never) mutating func manipulateBits(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try requireVEX()
        if i.width == 2 { try manipulateBits(i, UInt32.self) } else { try manipulateBits(i, UInt64.self) }
    }

    @inline(__always) private mutating func manipulateBits<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        switch i.operation {
        case .andn:
            let source: T = try source(i, or: i.register2)
            let result = ~read(i.register1, as: T.self) & source
            write(i.register0, result)
            setFlags(i, result, carry: false)
        case .bextr:
            let source: T = try source(i, or: i.register1)
            let control: T = third(i)
            let start = control & 0xFF, length = control >> 8 & 0xFF
            // Smart shifts: beyond the width all bits are gone.
            let result = source >> start & ~(T.max << length)
            write(i.register0, result)
            setFlags(i, result, carry: false, undefined: RFLAGS.sf | RFLAGS.pf)
        case .bzhi:
            let source: T = try source(i, or: i.register1)
            let index = third(i) & 0xFF as T
            let result = source & ~(T.max << index)
            write(i.register0, result)
            setFlags(i, result, carry: index >= T(truncatingIfNeeded: T.bitWidth))
        case .blsi:
            let source: T = try source(i, or: i.register1)
            write(i.register0, source & (0 &- source))
            setFlags(i, source & (0 &- source), carry: source != 0)
        case .blsmsk:
            let source: T = try source(i, or: i.register1)
            write(i.register0, source ^ (source &- 1))
            setFlags(i, source ^ (source &- 1), carry: source == 0)
        case .blsr:
            let source: T = try source(i, or: i.register1)
            write(i.register0, source & (source &- 1))
            setFlags(i, source & (source &- 1), carry: source == 0)
        case .mulx:
            let source: T = try source(i, or: i.register2)
            let (high, low) = source.multipliedFullWidth(by: read(2))
            write(i.register1, T(truncatingIfNeeded: low))
            write(i.register0, high)
        case .pdep:
            let mask: T = try source(i, or: i.register2)
            write(i.register0, read(i.register1, as: T.self).deposited(under: mask))
        case .pext:
            let mask: T = try source(i, or: i.register2)
            write(i.register0, read(i.register1, as: T.self).extracted(under: mask))
        case .rorx:
            let source: T = try source(i, or: i.register1)
            let count = T(truncatingIfNeeded: i.immediate)
            write(i.register0, source &>> count | source &<< (0 &- count))
        case .sarx:
            let source: T = try source(i, or: i.register1)
            let count: T = third(i) & T(truncatingIfNeeded: T.bitWidth - 1)
            let extended = Int64(bitPattern: source.signExtended) &>> Int64(truncatingIfNeeded: count)
            write(i.register0, T(truncatingIfNeeded: extended))
        case .shlx:
            let source: T = try source(i, or: i.register1)
            write(i.register0, source &<< third(i))
        default:
            let source: T = try source(i, or: i.register1)
            write(i.register0, source &>> third(i))
        }
    }

    // MARK: FS and GS

    /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE.
    @inline(never) mutating func moveSegmentBase(
        _ i: borrowing DecodedInstruction, _ register: SegmentRegister, isWrite: Bool
    ) throws(Interruption) {
        guard is64Bit, cr4 & CR4.fsgsbase != 0 else { throw .invalidOpcode }
        guard isWrite else { return write(i.register0, segments[register.rawValue].base, width: i.width) }
        let base = read(i.register0, width: i.width)
        guard base.isCanonical else { throw .generalProtection(0) }
        segments[register.rawValue].base = base
        updateSegmentCache(register.rawValue)
    }
}

extension OperandWidth {
    /// The low bits of the value at the places of the mask's ones: SDM vol. 2, PDEP.
    fileprivate func deposited(under mask: Self) -> Self {
        var result: Self = 0, left = mask, bits = self
        while left != 0 {
            let lowest = left & (0 &- left)
            if bits & 1 != 0 { result |= lowest }
            bits &>>= 1
            left &= left &- 1
        }
        return result
    }

    /// The value's bits at the places of the mask's ones, together at the low end: SDM vol. 2, PEXT.
    fileprivate func extracted(under mask: Self) -> Self {
        var result: Self = 0, left = mask, place: Self = 1
        while left != 0 {
            if self & left & (0 &- left) != 0 { result |= place }
            place &<<= 1
            left &= left &- 1
        }
        return result
    }
}
