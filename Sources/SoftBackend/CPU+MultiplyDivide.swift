// MUL, IMUL, DIV, IDIV: SDM vol. 2. Flags that are undefined there follow the low half of a product, and stay as they
// were at a division.

import NVMM

extension CPU {
    /// The operand of MUL, DIV and the one-operand IMUL and IDIV.
    @inline(__always) private mutating func factor<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) -> T {
        i.form == .register ? read(i.register0) : try loadOperand(i)
    }

    /// The double-width accumulator: AX, DX:AX, EDX:EAX, RDX:RAX.
    @inline(__always) private mutating func writeAccumulator<T: OperandWidth>(high: T, low: T) {
        if T.bitWidth == 8 {
            write(0, UInt16(truncatingIfNeeded: high) << 8 | UInt16(truncatingIfNeeded: low))
        } else {
            write(0, low)
            write(2, high)
        }
    }
    @inline(__always) private func accumulator<T: OperandWidth>(_ type: T.Type) -> (high: T, low: T) {
        (T.bitWidth == 8 ? read(RegisterNumber.highByte) : read(2), read(0))
    }

    @inline(__always) private mutating func setProduct<T: OperandWidth>(low: T, overflow: Bool) {
        status.setLogical(result: low)
        status.set(carry: overflow, overflow: overflow)
        status.mark(undefined: RFLAGS.sf | RFLAGS.zf | RFLAGS.af | RFLAGS.pf)
    }

    // MARK: Multiply

    @inline(__always) private mutating func mul<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let b = try factor(i, type)
        let a: T = read(0)
        let product = a.multipliedFullWidth(by: b)
        let low = T(truncatingIfNeeded: product.low)
        writeAccumulator(high: product.high, low: low)
        noteUndefinedFlags(of: i)
        setProduct(low: low, overflow: product.high != 0)
    }

    @inline(never) mutating func mul(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try mul(i, UInt8.self)
        case 1: try mul(i, UInt16.self)
        case 2: try mul(i, UInt32.self)
        default: try mul(i, UInt64.self)
        }
    }

    /// The signed product in two halves.
    @inline(__always) private func signedProduct<T: OperandWidth>(_ a: T, _ b: T) -> (high: T, low: T) {
        let unsigned = a.multipliedFullWidth(by: b)
        var high = unsigned.high
        // A negative factor counts 2^width too much of the other one.
        let top = T(truncatingIfNeeded: T.bitWidth - 1)
        if a &>> top != 0 { high = high &- b }
        if b &>> top != 0 { high = high &- a }
        return (high, T(truncatingIfNeeded: unsigned.low))
    }

    /// The high half is more than the low one's sign.
    @inline(__always) private func overflows<T: OperandWidth>(high: T, low: T) -> Bool {
        high != (low &>> T(truncatingIfNeeded: T.bitWidth - 1) != 0 ? T.max : 0)
    }

    @inline(__always) private mutating func imul<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let b = try factor(i, type)
        let product = signedProduct(read(0), b)
        writeAccumulator(high: product.high, low: product.low)
        noteUndefinedFlags(of: i)
        setProduct(low: product.low, overflow: overflows(high: product.high, low: product.low))
    }

    @inline(never) mutating func imul(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 0: try imul(i, UInt8.self)
        case 1: try imul(i, UInt16.self)
        case 2: try imul(i, UInt32.self)
        default: try imul(i, UInt64.self)
        }
    }

    @inline(__always) private mutating func multiplyRegister<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) {
        let isThree = i.operation == .imul3
        let source: T = i.form == .registerMemory ? try loadOperand(i) : read(i.register1)
        let product = signedProduct(isThree ? T(truncatingIfNeeded: i.immediate) : read(i.register0), source)
        write(i.register0, product.low)
        noteUndefinedFlags(of: i)
        setProduct(low: product.low, overflow: overflows(high: product.high, low: product.low))
    }

    @inline(never) mutating func imul2(_ i: borrowing DecodedInstruction) throws(Interruption) {
        switch i.width {
        case 1: try multiplyRegister(i, UInt16.self)
        case 2: try multiplyRegister(i, UInt32.self)
        default: try multiplyRegister(i, UInt64.self)
        }
    }

    mutating func imul3(_ i: borrowing DecodedInstruction) throws(Interruption) { try imul2(i) }

    // MARK: Divide

    @inline(__always) private mutating func div<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) where T.Magnitude == T {
        let divisor = try factor(i, type)
        let dividend = accumulator(type)
        // The quotient fits exactly where the high half is below the divisor; this covers a divisor of zero.
        guard dividend.high < divisor else { throw .exception(.divideError) }
        let result = divisor.dividingFullWidth(dividend)
        writeAccumulator(high: result.remainder, low: result.quotient)
    }

    @inline(never) mutating func div(_ i: borrowing DecodedInstruction) throws(Interruption) {
        defer { status.mark(undefined: RFLAGS.status) }
        noteUndefinedFlags(of: i)
        switch i.width {
        case 0: try div(i, UInt8.self)
        case 1: try div(i, UInt16.self)
        case 2: try div(i, UInt32.self)
        default: try div(i, UInt64.self)
        }
    }

    @inline(__always) private mutating func idiv<T: OperandWidth>(
        _ i: borrowing DecodedInstruction, _ type: T.Type
    ) throws(Interruption) where T.Magnitude == T {
        let divisor = try factor(i, type)
        let dividend = accumulator(type)
        let top = T(truncatingIfNeeded: T.bitWidth - 1)
        let dividendNegative = dividend.high &>> top != 0
        let divisorNegative = divisor &>> top != 0
        // Magnitudes are divided, then the signs put back.
        let magnitude = divisorNegative ? 0 &- divisor : divisor
        var high = dividend.high
        var low = dividend.low
        if dividendNegative {
            low = 0 &- low
            high = ~high &+ (low == 0 ? 1 : 0)
        }
        guard high < magnitude else { throw .exception(.divideError) }
        let result = magnitude.dividingFullWidth((high, low))
        let isNegative = dividendNegative != divisorNegative
        let limit: T = isNegative ? 1 &<< top : T.max &>> 1
        guard result.quotient <= limit else { throw .exception(.divideError) }
        writeAccumulator(
            high: dividendNegative ? 0 &- result.remainder : result.remainder,
            low: isNegative ? 0 &- result.quotient : result.quotient)
    }

    @inline(never) mutating func idiv(_ i: borrowing DecodedInstruction) throws(Interruption) {
        defer { status.mark(undefined: RFLAGS.status) }
        noteUndefinedFlags(of: i)
        switch i.width {
        case 0: try idiv(i, UInt8.self)
        case 1: try idiv(i, UInt16.self)
        case 2: try idiv(i, UInt32.self)
        default: try idiv(i, UInt64.self)
        }
    }
}
