// Sines, tangents, logarithms and powers of the x87 unit, from series in 128 bits: SDM vol. 1, section 8.3. The manual
// promises an error below one unit in the last place; rounded here are values with fifty bits more than that.

extension WideFloat {
    static let one = WideFloat(exponent: 0, significand: 1 << 127)
    fileprivate static let belowOne = one.justBelow
    private static let pi = WideFloat(exponent: 1, significand: 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1)
    private static let log2OfE = WideFloat(exponent: 0, significand: 0xB8AA_3B29_5C17_F0BB_BE87_FED0_691D_3E89)
    private static let naturalLogOf2 = WideFloat(exponent: -1, significand: 0xB172_17F7_D1CF_79AB_C9E3_B398_03F2_F6AF)
    private static let log2Of10 = WideFloat(exponent: 1, significand: 0xD49A_784B_CD1B_8AFE_492B_F6FF_4DAF_DB4D)
    private static let log10Of2 = WideFloat(exponent: -2, significand: 0x9A20_9A84_FBCF_F798_8F89_59AC_0B7C_9178)

    /// The next number towards zero.
    fileprivate var justBelow: WideFloat {
        let isPower = significand << 1 == 0
        return WideFloat(
            isNegative: isNegative, exponent: isPower ? exponent - 1 : exponent,
            significand: isPower ? .max : significand - 1)
    }

    /// What FLDPI and its like load.
    fileprivate static func constant(_ operation: X87Operation) -> WideFloat {
        switch operation {
        case .fldpi: pi
        case .fldl2e: log2OfE
        case .fldln2: naturalLogOf2
        case .fldl2t: log2Of10
        default: log10Of2
        }
    }

    /// Arctangents of 1/8 to 8/8.
    private static let arctangentsOfEighths: [WideFloat] = [
        WideFloat(exponent: -4, significand: 0xFEAD_D4D5_617B_6E32_C897_989F_3E88_8EF8),
        WideFloat(exponent: -3, significand: 0xFADB_AFC9_6406_EB15_6DC7_9EF5_F7A2_17E6),
        WideFloat(exponent: -2, significand: 0xB7B0_CA0F_26F7_8473_8AA3_2122_DCFE_4483),
        WideFloat(exponent: -2, significand: 0xED63_382B_0DDA_7B45_6FE4_45EC_BC3A_8D03),
        WideFloat(exponent: -1, significand: 0x8F00_5D5E_F7F5_9F9B_5C83_5E16_65C4_3748),
        WideFloat(exponent: -1, significand: 0xA4BC_7D19_34F7_0924_19A8_7F2A_457D_AC9F),
        WideFloat(exponent: -1, significand: 0xB805_3E2B_C231_9E73_CB2D_A552_10A4_443D),
        WideFloat(exponent: -1, significand: 0xC90F_DAA2_2168_C234_C4C6_628B_80DC_1CD1),
    ]

    // MARK: Series

    /// 1/0!, 1/1!, ...
    private static let inverseFactorials: [WideFloat] = {
        var terms = [one]
        for index in 1...28 { terms.append(terms[index - 1] / WideFloat(integer: index)) }
        return terms
    }()
    private static let ofSine = stride(from: 1, through: 27, by: 2).map { inverseFactorials[$0] }
    private static let ofCosine = stride(from: 0, through: 28, by: 2).map { inverseFactorials[$0] }
    private static let ofPower = (1...26).map { inverseFactorials[$0] }
    /// 1/1, 1/3, 1/5, ...
    private static let oddReciprocals = stride(from: 1, through: 43, by: 2).map { one / WideFloat(integer: $0) }

    /// c0 + c1 t + c2 t^2 + ..., where each term is smaller than the one before.
    private static func series(_ coefficients: [WideFloat], _ t: WideFloat) -> WideFloat {
        var sum = coefficients[coefficients.count - 1]
        for coefficient in coefficients.dropLast().reversed() { sum = sum * t + coefficient ?? coefficient }
        return sum
    }

    /// Of angles up to a little more than pi/4.
    private var sine: WideFloat { self * Self.series(Self.ofSine, (self * self).negated) }
    private var cosine: WideFloat { Self.series(Self.ofCosine, (self * self).negated) }

    /// e^x - 1, |x| up to 0.7.
    private var powerOfELess1: WideFloat { self * Self.series(Self.ofPower, self) }

    /// 2^x - 1, |x| up to 1.
    fileprivate var powerOf2Less1: WideFloat { (self * Self.naturalLogOf2).powerOfELess1 }

    /// 2 atanh(s) / ln 2, |s| up to 0.2.
    private var log2OfRatio: WideFloat {
        self * Self.series(Self.oddReciprocals, self * self) * Self.log2OfE.scaled(by: 1)
    }

    /// Of a positive number; nil for 0, of 1.
    fileprivate var log2: WideFloat? {
        // Near 1 on both sides.
        let isAbove = significand > 0xB504_F333_F9DE_6484 << 64
        let whole = exponent + (isAbove ? 1 : 0)
        let number = WideFloat(exponent: isAbove ? -1 : 0, significand: significand)
        let part = (number + Self.one.negated).map { less -> WideFloat in
            // Of two positive numbers there is a sum.
            (less / (number + .one ?? .one)).log2OfRatio
        }
        guard whole != 0 else { return part }
        guard let part else { return WideFloat(integer: whole) }
        return WideFloat(integer: whole) + part
    }

    /// log2(1 + x), |x| below 1 - sqrt(1/2); elsewhere the manual leaves the result open.
    fileprivate var log2Of1Plus: WideFloat? {
        if exponent < -2 || exponent == -2 && significand >> 64 < 0x95F6_1998_0C43_36F7 {
            return (self / (self + WideFloat(integer: 2) ?? .one)).log2OfRatio
        }
        guard let sum = self + .one, !sum.isNegative else { return nil }
        return sum.log2
    }

    /// Of numbers from 0 to 1.
    private var arctangent: WideFloat {
        let eighth = exponent < -5 ? 0 : Int(truncatingIfNeeded: (significand >> UInt128(123 - exponent) + 1) >> 1)
        guard eighth > 0 else { return self * Self.series(Self.oddReciprocals, (self * self).negated) }
        let middle = WideFloat(integer: eighth).scaled(by: -3), base = Self.arctangentsOfEighths[min(eighth, 8) - 1]
        guard let above = self + middle.negated, let below = self * middle + .one else { return base }
        let ratio = above / below
        return base + ratio * Self.series(Self.oddReciprocals, (ratio * ratio).negated) ?? base
    }

    /// The angle of a point that has neither coordinate zero.
    fileprivate static func angle(y: WideFloat, x: WideFloat) -> WideFloat {
        let high = y.withSign(false), wide = x.withSign(false)
        let isFlat = (high.exponent, high.significand) <= (wide.exponent, wide.significand)
        let part = (isFlat ? high / wide : wide / high).arctangent
        let angle: WideFloat? =
            switch (isFlat, x.isNegative) {
            case (true, false): part
            case (true, true): pi + part.negated
            case (false, false): pi.scaled(by: -1) + part.negated
            case (false, true): pi.scaled(by: -1) + part
            }
        return (angle ?? part).withSign(y.isNegative)
    }

    /// Multiples of pi/4.
    fileprivate static func quarters(_ count: Int) -> WideFloat { pi.scaled(by: -2) * WideFloat(integer: count) }

    // MARK: Angles

    /// Sine and cosine of a number below 2^63.
    fileprivate var sineAndCosine: (sine: WideFloat, cosine: WideFloat) {
        let (quadrant, rest) = reduced
        let (sine, cosine) = (rest.sine, rest.cosine)
        let turned =
            switch quadrant {
            case 0: (sine, cosine)
            case 1: (cosine, sine.negated)
            case 2: (sine.negated, cosine.negated)
            default: (cosine.negated, sine)
            }
        return isNegative ? (turned.0.negated, turned.1) : turned
    }

    /// The magnitude less a multiple of pi/2, with pi in the 66 bits that the processor has of it: SDM vol. 1, section
    /// 8.3.8.
    private var reduced: (quadrant: Int, rest: WideFloat) {
        guard exponent >= -1 else { return (0, withSign(false)) }
        // In units of 2^-65, of which pi/2 is this many.
        let quarter: UInt128 = 0x3_243F_6A88_85A3_08D3
        let number = UInt64(truncatingIfNeeded: significand >> 64)
        var rest: UInt128 = 0
        var quadrant = 0
        for step in 0..<66 + exponent {
            rest <<= 1
            if step < 64 { rest |= UInt128(number >> UInt64(63 - step) & 1) }
            quadrant = quadrant << 1 & 3
            if rest >= quarter {
                rest -= quarter
                quadrant |= 1
            }
        }
        // Never zero: no number of 64 bits is a multiple of one that has 66 and is odd.
        let isAbove = rest << 1 > quarter
        return (
            (quadrant + (isAbove ? 1 : 0)) & 3,
            WideFloat(isNegative: isAbove, exponent: 62, normalizing: isAbove ? quarter - rest : rest)
        )
    }
}

extension FloatEnvironment {
    /// FLDPI and its like: rounded as the control word says, in 64 bits, and no exception.
    static func constant(_ operation: X87Operation, rounding: FloatRounding) -> ExtendedFloat {
        switch operation {
        case .fld1: return .one
        case .fldz: return .zero(isNegative: false)
        default:
            var environment = FloatEnvironment(rounding: rounding, masks: FloatException.all, precision: 64)
            return environment.pack(.constant(operation))
        }
    }

    /// A result that counts as inexact although it is not: processors do not look.
    private mutating func packAsInexact(_ value: WideFloat) -> ExtendedFloat {
        let result = pack(value, precision: 64)
        raise(FloatException.precision)
        if result.signExponent & 0x7FFF == 0 { raise(FloatException.underflow) }
        return result
    }

    /// A result that is never exact, whatever its bits.
    private mutating func packInexact(_ value: WideFloat) -> ExtendedFloat {
        var value = value
        value.significand |= 1
        return pack(value, precision: 64)
    }

    /// F2XM1. Beyond -1...1 the manual leaves the result open; here it is the number itself.
    mutating func powerOf2Less1(_ a: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a) { return nan }
        noteDenormals(a, a)
        switch a.kind {
        case .zero: return a.register
        case .infinite: return a.isNegative ? ExtendedOperand(integer: -1).register : a.register
        default:
            if a.exponent >= 0 {
                guard a.exponent == 0, a.significand == ExtendedFloat.integerBit else { return a.register }
                return a.isNegative
                    ? ExtendedFloat(
                        isNegative: true, exponent: ExtendedFloat.bias - 1, significand: ExtendedFloat.integerBit)
                    : .one
            }
            return packInexact(WideFloat(a).powerOf2Less1)
        }
    }

    /// FYL2X: y log2(x), SDM vol. 2, table 3-60.
    mutating func logarithm(of x: ExtendedOperand, times y: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(x, y) { return nan }
        if x.isNegative, x.kind != .zero { return invalid() }
        let isBelow1 = x.kind == .zero || x.kind == .finite && x.exponent < 0
        let isNegative = y.isNegative != isBelow1
        switch (x.kind, y.kind) {
        case (.zero, .zero), (.infinite, .zero): return invalid()
        case (.zero, .finite):
            raise(FloatException.zeroDivide)
            return .infinity(isNegative: isNegative)
        case (.zero, _), (.infinite, _):
            noteDenormals(y, y)
            return .infinity(isNegative: isNegative)
        default: break
        }
        let logarithm = WideFloat(x).log2
        if y.kind == .infinite {
            if logarithm == nil { return invalid() }
            noteDenormals(x, x)
            return .infinity(isNegative: isNegative)
        }
        noteDenormals(x, y)
        guard let logarithm, y.kind != .zero else { return .zero(isNegative: isNegative) }
        let product = WideFloat(y) * logarithm
        guard x.significand == ExtendedFloat.integerBit else { return packInexact(product) }
        // Of a power of two the result may be exact.
        return packAsInexact(product)
    }

    /// FYL2XP1: y log2(x + 1).
    mutating func logarithm(of1Plus x: ExtendedOperand, times y: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(x, y) { return nan }
        let isNegative = x.isNegative != y.isNegative
        switch (x.kind, y.kind) {
        case (.zero, .infinite), (.infinite, .zero): return invalid()
        case (.infinite, _):
            if x.isNegative { return invalid() }
            noteDenormals(y, y)
            return .infinity(isNegative: isNegative)
        case (_, .infinite):
            noteDenormals(x, x)
            return .infinity(isNegative: isNegative)
        case (.zero, _), (_, .zero):
            noteDenormals(x, y)
            return .zero(isNegative: isNegative)
        default:
            noteDenormals(x, y)
            guard let logarithm = WideFloat(x).log2Of1Plus else { return invalid() }
            return packInexact(WideFloat(y) * logarithm)
        }
    }

    /// FPATAN: the angle of the point (x, y), SDM vol. 2, table 3-28.
    mutating func angle(y: ExtendedOperand, x: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(x, y) { return nan }
        noteDenormals(x, y)
        func quarters(_ count: Int) -> WideFloat { WideFloat.quarters(count).withSign(y.isNegative) }
        switch (y.kind, x.kind) {
        case (.infinite, .infinite): return packInexact(quarters(x.isNegative ? 3 : 1))
        case (.zero, _), (_, .infinite):
            return x.isNegative ? packInexact(quarters(4)) : .zero(isNegative: y.isNegative)
        case (.infinite, _), (_, .zero): return packInexact(quarters(2))
        default:
            // What the quotient alone is, where the angle is that small, may be exact; the angle never is.
            return packInexact(.angle(y: WideFloat(y), x: WideFloat(x)))
        }
    }

    /// Below this exponent an angle, its sine and its tangent are the same 64 bits, and no rounding goes elsewhere.
    private static var angleIsSine: Int { -68 }

    struct Trigonometry {
        var sine: ExtendedFloat
        var cosine: ExtendedFloat
    }

    /// FSIN, FCOS and FSINCOS.
    ///
    /// - Returns: nil where the number is too large: C2 says so.
    mutating func sineAndCosine(_ a: ExtendedOperand, wantsSine: Bool, wantsCosine: Bool) -> Trigonometry? {
        if let nan = propagated(a) { return Trigonometry(sine: nan, cosine: nan) }
        if a.kind == .infinite {
            let nan = invalid()
            return Trigonometry(sine: nan, cosine: nan)
        }
        noteDenormals(a, a)
        if a.kind == .zero { return Trigonometry(sine: a.register, cosine: .one) }
        guard a.exponent < 63 else { return nil }
        if a.exponent < Self.angleIsSine {
            // Processors of AMD round what is a little smaller, those of Intel the angle itself.
            let angle = WideFloat(a)
            let sine = !wantsSine ? .one : isIntel ? packAsInexact(angle) : pack(angle.justBelow, precision: 64)
            return Trigonometry(sine: sine, cosine: wantsCosine ? packInexact(.belowOne) : .one)
        }
        let (sine, cosine) = WideFloat(a).sineAndCosine
        let first = wantsSine ? packInexact(sine) : .one
        return Trigonometry(sine: first, cosine: wantsCosine ? packInexact(cosine) : .one)
    }

    /// FPTAN.
    mutating func tangent(_ a: ExtendedOperand) -> Trigonometry? {
        guard a.kind == .finite, a.exponent < 63 else {
            return sineAndCosine(a, wantsSine: true, wantsCosine: false)
        }
        noteDenormals(a, a)
        if a.exponent < Self.angleIsSine { return Trigonometry(sine: packAsInexact(WideFloat(a)), cosine: .one) }
        let (sine, cosine) = WideFloat(a).sineAndCosine
        return Trigonometry(sine: packInexact(sine / cosine), cosine: .one)
    }
}
