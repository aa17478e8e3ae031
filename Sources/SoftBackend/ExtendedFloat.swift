// Numbers of the x87 unit: 80 bits as its registers hold them, taken apart, and with 128 bits while one is worked out.

/// A register's number: SDM vol. 1, section 4.2.2, double extended precision.
struct ExtendedFloat: BitwiseCopyable, Equatable {
    /// The integer bit is the highest.
    var significand: UInt64
    /// The sign is the highest bit.
    var signExponent: UInt16

    static let bias = 16383
    static let exponentMax = 0x7FFF
    static let integerBit: UInt64 = 1 << 63
    static let quietBit: UInt64 = 1 << 62
    /// The QNaN of a masked invalid operation: SDM vol. 1, table 4-3.
    static let indefinite = ExtendedFloat(significand: integerBit | quietBit, signExponent: 0xFFFF)

    init(significand: UInt64, signExponent: UInt16) {
        self.significand = significand
        self.signExponent = signExponent
    }

    init(isNegative: Bool, exponent: Int, significand: UInt64) {
        self.significand = significand
        signExponent = (isNegative ? 0x8000 : 0) | UInt16(truncatingIfNeeded: exponent)
    }

    static func zero(isNegative: Bool) -> Self { Self(isNegative: isNegative, exponent: 0, significand: 0) }
    static func infinity(isNegative: Bool) -> Self {
        Self(isNegative: isNegative, exponent: exponentMax, significand: integerBit)
    }
    static let one = ExtendedFloat(isNegative: false, exponent: bias, significand: integerBit)

    var isNegative: Bool { signExponent & 0x8000 != 0 }
}

/// A number taken apart: sign, and significand * 2^(exponent - 63), the highest bit of the significand at 63.
struct ExtendedOperand {
    enum Kind {
        case zero, finite, infinite, quietNaN, signalingNaN
        /// Encodings that only the 8087 knew: SDM vol. 1, section 8.2.2.
        case unsupported
    }
    var kind: Kind
    var isNegative: Bool
    var exponent = 0
    /// Of a NaN: as a register holds it.
    var significand: UInt64 = 0
    var isDenormal = false

    var isNaN: Bool { kind == .quietNaN || kind == .signalingNaN }

    init(_ number: ExtendedFloat) {
        isNegative = number.isNegative
        significand = number.significand
        let biased = Int(number.signExponent & 0x7FFF)
        let hasIntegerBit = significand & ExtendedFloat.integerBit != 0
        if biased == 0 {
            kind = significand == 0 ? .zero : .finite
            isDenormal = significand != 0
            let shift = significand.leadingZeroBitCount & 63
            significand <<= UInt64(shift)
            exponent = 1 - ExtendedFloat.bias - shift
        } else if !hasIntegerBit {
            kind = .unsupported
        } else if biased != ExtendedFloat.exponentMax {
            kind = .finite
            exponent = biased - ExtendedFloat.bias
        } else if significand << 1 == 0 {
            kind = .infinite
        } else {
            kind = significand & ExtendedFloat.quietBit != 0 ? .quietNaN : .signalingNaN
        }
    }

    /// A number of memory in a narrower format. Every one of them has its place in a register.
    init<F: FloatFormat>(_ bits: F.Bits, _ format: F.Type) {
        isNegative = bits & F.signBit != 0
        let biased = Int(truncatingIfNeeded: bits >> F.Bits(F.fractionBits)) & F.exponentMax
        let fraction = UInt64(truncatingIfNeeded: bits & F.fractionMask) << UInt64(63 - F.fractionBits)
        if biased == F.exponentMax {
            significand = fraction | ExtendedFloat.integerBit
            kind = fraction == 0 ? .infinite : fraction & ExtendedFloat.quietBit != 0 ? .quietNaN : .signalingNaN
        } else if biased != 0 {
            kind = .finite
            exponent = biased - F.bias
            significand = fraction | ExtendedFloat.integerBit
        } else if fraction == 0 {
            kind = .zero
        } else {
            kind = .finite
            isDenormal = true
            let shift = fraction.leadingZeroBitCount
            significand = fraction << UInt64(shift)
            exponent = 1 - F.bias - shift
        }
    }

    init(integer: Int64) {
        kind = integer == 0 ? .zero : .finite
        isNegative = integer < 0
        let shift = integer.magnitude.leadingZeroBitCount
        significand = integer == 0 ? 0 : integer.magnitude << UInt64(shift)
        exponent = 63 - shift
    }

    /// As a register holds it; a NaN that signals still does.
    var register: ExtendedFloat {
        let biased = exponent + ExtendedFloat.bias
        return switch kind {
        case .zero: .zero(isNegative: isNegative)
        case .infinite: .infinity(isNegative: isNegative)
        case .finite where biased <= 0:
            ExtendedFloat(isNegative: isNegative, exponent: 0, significand: significand >> UInt64(1 - biased))
        case .finite: ExtendedFloat(isNegative: isNegative, exponent: biased, significand: significand)
        default: ExtendedFloat(isNegative: isNegative, exponent: ExtendedFloat.exponentMax, significand: significand)
        }
    }
}

/// A finite number but zero: significand * 2^(exponent - 127), the highest bit of the significand at 127. Bits that an
/// operation loses are kept as one at the low end, so that rounding still sees them.
struct WideFloat {
    var isNegative = false
    var exponent: Int
    var significand: UInt128

    init(isNegative: Bool = false, exponent: Int, significand: UInt128) {
        self.isNegative = isNegative
        self.exponent = exponent
        self.significand = significand
    }

    init(_ operand: ExtendedOperand) {
        isNegative = operand.isNegative
        exponent = operand.exponent
        significand = UInt128(operand.significand) << 64
    }

    /// `significand` * 2^(exponent - 127), wherever its highest bit is.
    ///
    /// - Parameter significand: not zero.
    init(isNegative: Bool = false, exponent: Int, normalizing significand: UInt128) {
        let shift = significand.leadingZeroBitCount & 127
        self.init(isNegative: isNegative, exponent: exponent - shift, significand: significand << UInt128(shift))
    }

    /// - Parameter value: not zero.
    init(integer value: Int) {
        self.init(isNegative: value < 0, exponent: 127, normalizing: UInt128(max(value.magnitude, 1)))
    }

    var negated: WideFloat { WideFloat(isNegative: !isNegative, exponent: exponent, significand: significand) }
    func scaled(by power: Int) -> WideFloat {
        WideFloat(isNegative: isNegative, exponent: exponent + power, significand: significand)
    }
    func withSign(_ isNegative: Bool) -> WideFloat {
        WideFloat(isNegative: isNegative, exponent: exponent, significand: significand)
    }

    // MARK: Arithmetic

    static func * (a: WideFloat, b: WideFloat) -> WideFloat {
        let (high, low) = a.significand.multipliedFullWidth(by: b.significand)
        let isNegative = a.isNegative != b.isNegative
        let exponent = a.exponent + b.exponent
        if high >> 127 != 0 {
            return WideFloat(isNegative: isNegative, exponent: exponent + 1, significand: high | (low == 0 ? 0 : 1))
        }
        return WideFloat(
            isNegative: isNegative, exponent: exponent,
            significand: high << 1 | low >> 127 | (low << 1 == 0 ? 0 : 1))
    }

    /// - Returns: nil for zero.
    static func + (a: WideFloat, b: WideFloat) -> WideFloat? {
        var (large, small) = (a, b)
        if (small.exponent, small.significand) > (large.exponent, large.significand) { swap(&large, &small) }
        let aligned = small.significand.shiftedRightSticky(large.exponent - small.exponent)
        if large.isNegative == small.isNegative {
            let (sum, carries) = large.significand.addingReportingOverflow(aligned)
            guard carries else { return large.withSignificand(sum) }
            return WideFloat(
                isNegative: large.isNegative, exponent: large.exponent + 1,
                significand: 1 << 127 | sum.shiftedRightSticky(1))
        }
        let difference = large.significand - aligned
        guard difference != 0 else { return nil }
        return WideFloat(isNegative: large.isNegative, exponent: large.exponent, normalizing: difference)
    }

    static func / (a: WideFloat, b: WideFloat) -> WideFloat {
        // Half of the dividend is less than the divisor, whose highest bit is set.
        let (quotient, rest) = b.significand.dividingFullWidth((a.significand >> 1, a.significand << 127))
        let result = WideFloat(
            isNegative: a.isNegative != b.isNegative, exponent: a.exponent - b.exponent, normalizing: quotient)
        return rest == 0 ? result : result.withSignificand(result.significand | 1)
    }

    /// Of a positive number: 66 bits, and one for all that follow.
    var squareRoot: WideFloat {
        let isOdd = exponent & 1 != 0
        // Two bits before the point, 64 after it; the rest of the significand is zeros where 64 bits came in.
        let radicand = significand >> (isOdd ? 62 : 63)
        var root: UInt128 = 0
        var rest: UInt128 = 0
        for step in 0..<66 {
            let pair = step < 33 ? radicand >> UInt128(64 - 2 * step) & 3 : 0
            rest = rest << 2 | pair
            let trial = root << 2 | 1
            root <<= 1
            if rest >= trial {
                rest -= trial
                root |= 1
            }
        }
        return WideFloat(exponent: (exponent - (isOdd ? 1 : 0)) / 2, significand: root << 62 | (rest == 0 ? 0 : 1))
    }

    private func withSignificand(_ changed: UInt128) -> WideFloat {
        WideFloat(isNegative: isNegative, exponent: exponent, significand: changed)
    }
}

extension UInt128 {
    /// Shifted right; bits that leave are kept as one at the low end.
    func shiftedRightSticky(_ count: Int) -> UInt128 {
        if count <= 0 { return self }
        if count > 127 { return self == 0 ? 0 : 1 }
        return self >> UInt128(count) | (self & (1 << UInt128(count) - 1) == 0 ? 0 : 1)
    }
}
