// BT, BTS, BTR, BTC, BSF, BSR: SDM vol. 2.

import NVMM

private enum BitChange {
    case none, set, reset, complement

    @inline(__always) func apply<T: OperandWidth>(_ value: T, _ mask: T) -> T {
        switch self {
        case .none: value
        case .set: value | mask
        case .reset: value & ~mask
        case .complement: value ^ mask
        }
    }
}

extension StatusFlags {
    @inline(__always) fileprivate mutating func setTested(_ bit: Bool) {
        set(carry: bit)
        mark(undefined: RFLAGS.of | RFLAGS.sf | RFLAGS.af | RFLAGS.pf)
    }
}

extension CPU {
    /// CF is the bit as it was; the other flags stay (all but ZF are undefined).
    @inline(__always) private mutating func bitTest<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ change: BitChange, _ type: T.Type
    ) throws(Interruption) {
        let byImmediate = i.form == .registerImmediate || i.form == .memoryImmediate
        noteUndefinedFlags(of: i)
        if i.form == .registerRegister || i.form == .registerImmediate {
            // Shifts below wrap to the width, as the bit offset into a register does.
            let mask: T = 1 &<< (byImmediate ? T(truncatingIfNeeded: i.immediate) : read(i.register1))
            let value: T = read(i.register0)
            if change != .none { write(i.register0, change.apply(value, mask)) }
            return status.setTested(value & mask != 0)
        }
        var address = effectiveAddress(i)
        let mask: T
        if byImmediate {
            mask = 1 &<< T(truncatingIfNeeded: i.immediate)
        } else {
            // A register's bit offset is signed and reaches beyond the operand, in steps of the operand.
            let index: T = read(i.register0)
            mask = 1 &<< index
            let bits = Int64(bitPattern: index.signExtended)
            let units = UInt64(bitPattern: bits >> Int64(T.bitWidth.trailingZeroBitCount))
            address = truncate(address &+ units &* UInt64(T.bitWidth / 8), toAddressWidth: i.addressWidth)
        }
        if change == .none {
            let value: T = try load(i.segment, address)
            return status.setTested(value & mask != 0)
        }
        let isLocked = isConcurrent && i.isLocked
        try modify(i.segment, address, as: T.self, isLocked: isLocked) {
            (cpu: inout CPU, value: T) throws(Interruption) in
            cpu.status.setTested(value & mask != 0)
            return change.apply(value, mask)
        }
    }

    @inline(__always) private mutating func bitTest(
        _ i: borrowing DecodedInstruction, _ change: BitChange
    ) throws(Interruption) {
        switch i.width {
        case 1: try bitTest(i, change, UInt16.self)
        case 2: try bitTest(i, change, UInt32.self)
        default: try bitTest(i, change, UInt64.self)
        }
    }

    @inline(never) mutating func bt(_ i: borrowing DecodedInstruction) throws(Interruption) { try bitTest(i, .none) }
    @inline(never) mutating func bts(_ i: borrowing DecodedInstruction) throws(Interruption) { try bitTest(i, .set) }
    @inline(never) mutating func btr(_ i: borrowing DecodedInstruction) throws(Interruption) { try bitTest(i, .reset) }
    @inline(never) mutating func btc(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try bitTest(i, .complement)
    }

    /// The source of BSF and BSR, zero-extended. ZF tells whether it is zero; the destination then stays, as on all
    /// processors (undefined in the SDM, defined in AMD's manual). The other flags are undefined.
    @inline(__always) private mutating func scanned(_ i: borrowing DecodedInstruction) throws(Interruption) -> UInt64? {
        let value = try secondOperand(i, width: i.width)
        status.setLogical(result: value)
        status.mark(undefined: RFLAGS.status & ~RFLAGS.zf)
        noteUndefinedFlags(of: i)
        return value == 0 ? nil : value
    }

    @inline(never) mutating func bsf(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard let value = try scanned(i) else { return }
        write(i.register0, UInt64(truncatingIfNeeded: value.trailingZeroBitCount), width: i.width)
    }

    @inline(never) mutating func bsr(_ i: borrowing DecodedInstruction) throws(Interruption) {
        guard let value = try scanned(i) else { return }
        write(i.register0, UInt64(truncatingIfNeeded: 63 - value.leadingZeroBitCount), width: i.width)
    }
}
