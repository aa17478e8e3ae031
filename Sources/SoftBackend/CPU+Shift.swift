// Shifts and rotates: SDM vol. 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD.
//
// Flags that the manual leaves undefined follow the formula of the defined case, and AF is as the model has it, so that
// a guest sees the same on every host.

import NVMM

/// A shift or rotate of a value by a count that is not zero.
protocol ShiftOperation {
    /// - Parameter count: 1...31, for 64-bit operands 1...63. May exceed the width of narrow operands.
    static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T
}

extension StatusFlags {
    /// As shifts leave them: AF as the model has it, everything else from the result and the two given.
    @inline(__always) mutating func setShifted<T: OperandWidth>(
        _ value: T, carry: Bool, overflow: Bool, count: UInt64
    ) {
        result = value.signExtended
        carries =
            (carry ? 1 << 63 : 0) | (carry != overflow ? 1 << 62 : 0) | auxiliaryAfterShift
            | (count == 1 ? RFLAGS.af : RFLAGS.af | RFLAGS.of) << 16
        if count >= UInt64(T.bitWidth) { mark(undefined: RFLAGS.cf) }
    }

    /// As rotates leave them: CF and OF from the result, OF undefined but for one bit.
    @inline(__always) mutating func setRotated(carry: Bool, overflow: Bool, count: UInt64) {
        set(carry: carry, overflow: overflow)
        if count != 1 { mark(undefined: RFLAGS.of) }
    }
}

extension FixedWidthInteger where Self: UnsignedInteger {
    @inline(__always) fileprivate var topBit: Bool { self >> Self(truncatingIfNeeded: Self.bitWidth - 1) != 0 }
    /// The two top bits differ.
    @inline(__always) fileprivate var topBitsDiffer: Bool { (self ^ (self &<< 1)).topBit }
    @inline(__always) fileprivate func bit(_ index: UInt64) -> Bool {
        index < UInt64(Self.bitWidth) && self &>> Self(truncatingIfNeeded: index) & 1 != 0
    }
}

enum Shl: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let result = a << count
        let carry = a.bit(UInt64(T.bitWidth) &- count)
        status.setShifted(result, carry: carry, overflow: carry != result.topBit, count: count)
        return result
    }
}
/// ``Shl`` with the deliberate error ``InjectedFault/shlCarry``.
private enum ShlWithoutCarry: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let result = Shl.apply(&status, a, count: count)
        if count > 1 { status.set(carry: false) }
        return result
    }
}
enum Shr: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let result = a >> count
        status.setShifted(result, carry: a.bit(count &- 1), overflow: result.topBitsDiffer, count: count)
        return result
    }
}
enum Sar: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        // Wide enough for every width; beyond the operand's width all that is left is its sign.
        let wide = Int64(bitPattern: a.signExtended)
        let result = T(truncatingIfNeeded: wide &>> Int64(bitPattern: count))
        let carry = (wide &>> Int64(bitPattern: count &- 1)) & 1 != 0
        status.setShifted(result, carry: carry, overflow: false, count: count)
        return result
    }
}
private enum Rol: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let by = T(truncatingIfNeeded: count)
        let result = (a &<< by) | (a &>> (0 &- by))  // both counts wrap to the width
        let carry = result & 1 != 0
        status.setRotated(carry: carry, overflow: carry != result.topBit, count: count)
        return result
    }
}
private enum Ror: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let by = T(truncatingIfNeeded: count)
        let result = (a &>> by) | (a &<< (0 &- by))
        status.setRotated(carry: result.topBit, overflow: result.topBitsDiffer, count: count)
        return result
    }
}
private enum Rcl: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let width = UInt64(T.bitWidth)
        // The carry is one more bit of the ring. Narrow operands can come round to where they were: nothing changes.
        let by = count % (width &+ 1)
        guard by != 0 else { return a }
        let carryIn: T = status.carry ? 1 : 0
        let result = a << by | carryIn &<< T(truncatingIfNeeded: by &- 1) | a >> (width &+ 1 &- by)
        let carry = a.bit(width &- by)
        status.setRotated(carry: carry, overflow: carry != result.topBit, count: count)
        return result
    }
}
private enum Rcr: ShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, count: UInt64) -> T {
        let width = UInt64(T.bitWidth)
        let by = count % (width &+ 1)
        guard by != 0 else { return a }
        let carryIn: T = status.carry ? 1 : 0
        let result = a >> by | carryIn &<< T(truncatingIfNeeded: width &- by) | a << (width &+ 1 &- by)
        status.setRotated(carry: a.bit(by &- 1), overflow: result.topBitsDiffer, count: count)
        return result
    }
}

extension CPU {
    @inline(__always) private mutating func shift<Operation: ShiftOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        let byImmediate = i.form == .registerImmediate || i.form == .memoryImmediate
        let count = (byImmediate ? i.immediate : gpr[1]) & (T.bitWidth == 64 ? 63 : 31)
        if count != 0 { noteUndefinedFlags(of: i) }
        if i.form == .registerImmediate || i.form == .registerRegister {
            // A count of 0 changes nothing, except that 32-bit destinations are still extended.
            let a: T = read(i.register0)
            write(i.register0, count == 0 ? a : Operation.apply(&status, a, count: count))
        } else {
            // Processors write the destination whatever the count.
            try modify(i, as: T.self) { (cpu: inout CPU, a: T) throws(Interruption) in
                count == 0 ? a : Operation.apply(&cpu.status, a, count: count)
            }
        }
    }

    /// SHL, SHR and SAR of a register by an immediate that is not zero once masked.
    @inline(__always) mutating func shiftRegister<Operation: ShiftOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) {
        let count = i.immediate & (T.bitWidth == 64 ? 63 : 31)
        noteUndefinedFlags(of: i)
        write(i.register0, Operation.apply(&status, read(i.register0, as: T.self), count: count))
        if fault == .shlCarry, Operation.self == Shl.self, count > 1 { status.set(carry: false) }
    }

    @inline(__always) private mutating func shift<Operation: ShiftOperation>(
        _ i: borrowing DecodedInstruction, _ operation: Operation.Type
    ) throws(Interruption) {
        switch i.width {
        case 0: try shift(i, operation, UInt8.self)
        case 1: try shift(i, operation, UInt16.self)
        case 2: try shift(i, operation, UInt32.self)
        default: try shift(i, operation, UInt64.self)
        }
    }

    @inline(never) mutating func rol(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Rol.self) }
    @inline(never) mutating func ror(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Ror.self) }
    @inline(never) mutating func rcl(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Rcl.self) }
    @inline(never) mutating func rcr(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Rcr.self) }
    @inline(never) mutating func shl(_ i: borrowing DecodedInstruction) throws(Interruption) {
        if fault == .shlCarry { return try shift(i, ShlWithoutCarry.self) }
        try shift(i, Shl.self)
    }
    @inline(never) mutating func shr(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Shr.self) }
    @inline(never) mutating func sar(_ i: borrowing DecodedInstruction) throws(Interruption) { try shift(i, Sar.self) }
}

// MARK: - Double shifts

/// SHLD or SHRD: a shift of `a` that takes its new bits from `b`.
private protocol DoubleShiftOperation {
    static func apply<T: OperandWidth>(_ status: inout StatusFlags, _ a: T, _ b: T, count: UInt64) -> T
}

private enum Shld: DoubleShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(
        _ status: inout StatusFlags, _ a: T, _ b: T, count: UInt64
    ) -> T {
        let width = UInt64(T.bitWidth)
        // Counts above 16 of 16-bit operands are undefined; processors go on through a:b:a.
        let (first, second, by) = count > width ? (b, a, count &- width) : (a, b, count)
        let result = first << by | second >> (width &- by)
        let carry = first.bit(width &- by)
        status.setShifted(result, carry: carry, overflow: carry != result.topBit, count: count)
        return result
    }
}

private enum Shrd: DoubleShiftOperation {
    @inline(__always) static func apply<T: OperandWidth>(
        _ status: inout StatusFlags, _ a: T, _ b: T, count: UInt64
    ) -> T {
        let width = UInt64(T.bitWidth)
        let (first, second, by) = count > width ? (b, a, count &- width) : (a, b, count)
        let result = first >> by | second << (width &- by)
        status.setShifted(result, carry: first.bit(by &- 1), overflow: result.topBitsDiffer, count: count)
        return result
    }
}

extension CPU {
    @inline(__always) private mutating func doubleShift<Operation: DoubleShiftOperation, T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _: Operation.Type, _ type: T.Type
    ) throws(Interruption) {
        // 0F A4 and 0F AC have an immediate, 0F A5 and 0F AD take CL.
        let count = (i.condition & 1 == 0 ? i.immediate : gpr[1]) & (T.bitWidth == 64 ? 63 : 31)
        if count != 0 { noteUndefinedFlags(of: i) }
        if i.form == .registerRegister {
            let a: T = read(i.register0)
            let b: T = read(i.register1)
            write(i.register0, count == 0 ? a : Operation.apply(&status, a, b, count: count))
        } else {
            let b: T = read(i.register0)
            try modify(i, as: T.self) { (cpu: inout CPU, a: T) throws(Interruption) in
                count == 0 ? a : Operation.apply(&cpu.status, a, b, count: count)
            }
        }
    }

    @inline(__always) private mutating func doubleShift<Operation: DoubleShiftOperation>(
        _ i: borrowing DecodedInstruction, _ operation: Operation.Type
    ) throws(Interruption) {
        switch i.width {
        case 1: try doubleShift(i, operation, UInt16.self)
        case 2: try doubleShift(i, operation, UInt32.self)
        default: try doubleShift(i, operation, UInt64.self)
        }
    }

    @inline(never) mutating func shld(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try doubleShift(i, Shld.self)
    }
    @inline(never) mutating func shrd(_ i: borrowing DecodedInstruction) throws(Interruption) {
        try doubleShift(i, Shrd.self)
    }
}
