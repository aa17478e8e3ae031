// IEEE 754 arithmetic in integers, with the exceptions as x86 reports them: SDM vol. 1, sections 4.8, 4.9 and 11.5.
// The host's own floating point gives no flags, and not in every rounding mode.

/// A binary interchange format of 32 or 64 bits.
protocol FloatFormat {
    associatedtype Bits: OperandWidth
    static var fractionBits: Int { get }
    static var exponentBits: Int { get }
}

extension FloatFormat {
    @inline(__always) static var bias: Int { 1 << (exponentBits - 1) - 1 }
    /// The biased exponent of infinities and NaNs.
    @inline(__always) static var exponentMax: Int { 1 << exponentBits - 1 }
    @inline(__always) static var fractionMask: Bits { 1 << Bits(fractionBits) - 1 }
    @inline(__always) static var signBit: Bits { 1 << Bits(Bits.bitWidth - 1) }
    @inline(__always) static var quietBit: Bits { 1 << Bits(fractionBits - 1) }
    @inline(__always) static var infinity: Bits { Bits(exponentMax) << Bits(fractionBits) }
    /// The QNaN of a masked invalid operation: SDM vol. 1, table 4-3.
    @inline(__always) static var indefinite: Bits { signBit | infinity | quietBit }
    @inline(__always) static var largest: Bits { infinity - 1 }
}

enum SingleFormat: FloatFormat {
    typealias Bits = UInt32
    static let fractionBits = 23
    static let exponentBits = 8
}

enum DoubleFormat: FloatFormat {
    typealias Bits = UInt64
    static let fractionBits = 52
    static let exponentBits = 11
}

/// The exceptions, at their places in MXCSR's flags; masks stand seven bits above.
enum FloatException {
    static let invalid: UInt32 = 1 << 0
    static let denormal: UInt32 = 1 << 1
    static let zeroDivide: UInt32 = 1 << 2
    static let overflow: UInt32 = 1 << 3
    static let underflow: UInt32 = 1 << 4
    static let precision: UInt32 = 1 << 5
    /// Those that are known before a result is: SDM vol. 1, section 11.5.2.
    static let preComputation = invalid | denormal | zeroDivide
    static let all: UInt32 = 0x3F
}

enum FloatRounding: UInt32 {
    case nearestEven, down, up, zero

    /// Whether a magnitude becomes larger that loses `rest` of a unit of twice `half`.
    @inline(__always) func goesUp<T: FixedWidthInteger>(rest: T, half: T, isOdd: Bool, isNegative: Bool) -> Bool {
        switch self {
        case .nearestEven: rest > half || rest == half && isOdd
        case .down: rest != 0 && isNegative
        case .up: rest != 0 && !isNegative
        case .zero: false
        }
    }

    /// Whether what is too large becomes the largest number rather than infinity: SDM vol. 1, table 4-10.
    @inline(__always) func staysFinite(isNegative: Bool) -> Bool {
        self == .zero || self == (isNegative ? .up : .down)
    }
}

/// What MXCSR or the x87 control word asks for, and what was met since it was made.
struct FloatEnvironment {
    var rounding: FloatRounding
    /// Denormal operands count as zeros, denormal results become zeros.
    let denormalsAreZeros: Bool
    let flushesToZero: Bool
    let masks: UInt32
    /// Bits of the significand that x87 arithmetic rounds to.
    let precision: Int
    var exceptions: UInt32 = 0
    /// Whether the last rounding made the magnitude larger, which x87 tells.
    var roundedUp = false
    /// As ``ProcessorModel/isIntel``: x87 asks.
    var isIntel = true

    init(mxcsr: UInt32) {
        rounding = FloatRounding(rawValue: mxcsr >> 13 & 3) ?? .nearestEven
        denormalsAreZeros = mxcsr & 1 << 6 != 0
        flushesToZero = mxcsr & 1 << 15 != 0
        masks = mxcsr >> 7 & FloatException.all
        precision = 64
    }

    init(rounding: FloatRounding, masks: UInt32, precision: Int) {
        self.rounding = rounding
        self.masks = masks
        self.precision = precision
        denormalsAreZeros = false
        flushesToZero = false
    }

    @inline(__always) mutating func raise(_ exception: UInt32) { exceptions |= exception }
}

/// A number taken apart: sign, and significand * 2^(exponent - 62), the highest bit of the significand at 62.
struct UnpackedFloat {
    enum Kind { case zero, finite, infinite, quietNaN, signalingNaN }
    var kind: Kind
    var isNegative: Bool
    var exponent = 0
    var significand: UInt64 = 0
    var isDenormal = false

    var isNaN: Bool { kind == .quietNaN || kind == .signalingNaN }

    init<F: FloatFormat>(_ bits: F.Bits, _ format: F.Type, _ environment: FloatEnvironment) {
        isNegative = bits & F.signBit != 0
        let biased = Int(truncatingIfNeeded: bits >> F.Bits(F.fractionBits)) & F.exponentMax
        let fraction = UInt64(truncatingIfNeeded: bits & F.fractionMask)
        if biased == F.exponentMax {
            kind = fraction == 0 ? .infinite : bits & F.quietBit != 0 ? .quietNaN : .signalingNaN
        } else if biased != 0 {
            kind = .finite
            exponent = biased - F.bias
            significand = (fraction | 1 << UInt64(F.fractionBits)) << UInt64(62 - F.fractionBits)
        } else if fraction == 0 || environment.denormalsAreZeros {
            kind = .zero
        } else {
            kind = .finite
            isDenormal = true
            let shift = fraction.leadingZeroBitCount - 1
            significand = fraction << UInt64(shift)
            exponent = 1 - F.bias - (shift - (62 - F.fractionBits))
        }
    }

    init(isNegative: Bool, exponent: Int, significand: UInt64) {
        kind = .finite
        self.isNegative = isNegative
        self.exponent = exponent
        self.significand = significand
    }
}

extension UInt64 {
    /// Shifted right; bits that leave are kept as one at the low end, so that rounding still sees them.
    @inline(__always) func shiftedRightSticky(_ count: Int) -> UInt64 {
        if count <= 0 { return self }
        if count > 63 { return self == 0 ? 0 : 1 }
        return self >> UInt64(count) | (self & (1 << UInt64(count) - 1) == 0 ? 0 : 1)
    }

    /// Rounded to a multiple of 2^`dropped`, and divided by it.
    @inline(__always) func rounded(dropping dropped: Int, isNegative: Bool, _ rounding: FloatRounding) -> UInt64 {
        let rest = self & (1 << UInt64(dropped) - 1)
        let whole = self >> UInt64(dropped)
        guard rest != 0 else { return whole }
        let goesUp = rounding.goesUp(
            rest: rest, half: 1 << UInt64(dropped - 1), isOdd: whole & 1 != 0, isNegative: isNegative)
        return goesUp ? whole + 1 : whole
    }
}

extension FloatEnvironment {
    // MARK: - Results

    /// Rounds to the format, and reports overflow, underflow and lost precision.
    mutating func pack<F: FloatFormat>(_ value: UnpackedFloat, _ format: F.Type) -> F.Bits {
        let dropped = 62 - F.fractionBits
        let sign: F.Bits = value.isNegative ? F.signBit : 0
        let biased = value.exponent + F.bias
        if biased <= 0 { return packTiny(value, biased, sign, F.self) }
        var whole = value.significand.rounded(dropping: dropped, isNegative: value.isNegative, rounding)
        roundedUp = whole != value.significand >> UInt64(dropped)
        var exponent = biased
        if whole >> UInt64(F.fractionBits + 1) != 0 {
            whole >>= 1
            exponent += 1
        }
        let isInexact = value.significand & (1 << UInt64(dropped) - 1) != 0
        if exponent >= F.exponentMax {
            raise(FloatException.overflow)
            // Not masked, only what the rounded number lost counts, as if the exponent had no end.
            if isInexact || masks & FloatException.overflow != 0 { raise(FloatException.precision) }
            let staysFinite = rounding.staysFinite(isNegative: value.isNegative)
            roundedUp = !staysFinite
            return sign | (staysFinite ? F.largest : F.infinity)
        }
        if isInexact { raise(FloatException.precision) }
        return sign | F.Bits(exponent) << F.Bits(F.fractionBits) | F.Bits(truncatingIfNeeded: whole) & F.fractionMask
    }

    /// A result below the smallest normal number. Tininess is seen after rounding: SDM vol. 1, section 4.9.1.5.
    private mutating func packTiny<F: FloatFormat>(
        _ value: UnpackedFloat, _ biased: Int, _ sign: F.Bits, _ format: F.Type
    ) -> F.Bits {
        let dropped = 62 - F.fractionBits
        let unbounded = value.significand.rounded(dropping: dropped, isNegative: value.isNegative, rounding)
        let isTiny = biased < 0 || unbounded >> UInt64(F.fractionBits + 1) == 0
        let shifted = value.significand.shiftedRightSticky(1 - biased)
        let isInexact = shifted & (1 << UInt64(dropped) - 1) != 0
        let isMasked = masks & FloatException.underflow != 0
        if isTiny, isMasked, flushesToZero {
            raise(FloatException.underflow | FloatException.precision)
            return sign
        }
        if isTiny, isInexact || !isMasked { raise(FloatException.underflow) }
        let losesNormally = value.significand & (1 << UInt64(dropped) - 1) != 0
        if isTiny && !isMasked ? losesNormally : isInexact { raise(FloatException.precision) }
        // A carry makes it the smallest normal number by itself.
        let whole = shifted.rounded(dropping: dropped, isNegative: value.isNegative, rounding)
        roundedUp = whole != shifted >> UInt64(dropped)
        return sign | F.Bits(truncatingIfNeeded: whole)
    }

    /// The NaN that comes of operands one of which is one: SDM vol. 1, table 4-7, for SSE.
    mutating func propagate<F: FloatFormat>(
        _ a: F.Bits, _ b: F.Bits, _ first: UnpackedFloat, _ second: UnpackedFloat, _ format: F.Type
    ) -> F.Bits {
        if first.kind == .signalingNaN || second.kind == .signalingNaN { raise(FloatException.invalid) }
        return (first.isNaN ? a : b) | F.quietBit
    }

    private mutating func invalid<F: FloatFormat>(_ format: F.Type) -> F.Bits {
        raise(FloatException.invalid)
        return F.indefinite
    }

    @inline(__always) mutating func noteDenormals(_ a: UnpackedFloat, _ b: UnpackedFloat) {
        if a.isDenormal || b.isDenormal { raise(FloatException.denormal) }
    }

    // MARK: - Arithmetic

    mutating func sum<F: FloatFormat>(_ a: F.Bits, _ b: F.Bits, negating: Bool, _ format: F.Type) -> F.Bits {
        let first = UnpackedFloat(a, F.self, self)
        var second = UnpackedFloat(b, F.self, self)
        if first.isNaN || second.isNaN { return propagate(a, b, first, second, F.self) }
        if negating { second.isNegative.toggle() }
        switch (first.kind, second.kind) {
        case (.infinite, .infinite) where first.isNegative != second.isNegative: return invalid(F.self)
        case (.infinite, _), (_, .infinite):
            noteDenormals(first, second)
            let isNegative = first.kind == .infinite ? first.isNegative : second.isNegative
            return (isNegative ? F.signBit : 0) | F.infinity
        case (.zero, .zero):
            let isNegative = first.isNegative == second.isNegative ? first.isNegative : rounding == .down
            return isNegative ? F.signBit : 0
        case (.zero, _):
            noteDenormals(first, second)
            return pack(second, F.self)
        case (_, .zero):
            noteDenormals(first, second)
            return pack(first, F.self)
        default:
            noteDenormals(first, second)
            return sum(first, second, F.self)
        }
    }

    private mutating func sum<F: FloatFormat>(
        _ first: UnpackedFloat, _ second: UnpackedFloat, _ format: F.Type
    ) -> F.Bits {
        var (large, small) = (first, second)
        if (small.exponent, small.significand) > (large.exponent, large.significand) { swap(&large, &small) }
        let aligned = small.significand.shiftedRightSticky(large.exponent - small.exponent)
        if large.isNegative == small.isNegative {
            large.significand += aligned
            if large.significand >> 63 != 0 {
                large.significand = large.significand.shiftedRightSticky(1)
                large.exponent += 1
            }
            return pack(large, F.self)
        }
        large.significand -= aligned
        guard large.significand != 0 else { return rounding == .down ? F.signBit : 0 }
        let shift = large.significand.leadingZeroBitCount - 1
        large.significand <<= UInt64(shift)
        large.exponent -= shift
        return pack(large, F.self)
    }

    mutating func product<F: FloatFormat>(_ a: F.Bits, _ b: F.Bits, _ format: F.Type) -> F.Bits {
        let first = UnpackedFloat(a, F.self, self), second = UnpackedFloat(b, F.self, self)
        if first.isNaN || second.isNaN { return propagate(a, b, first, second, F.self) }
        let isNegative = first.isNegative != second.isNegative
        let sign: F.Bits = isNegative ? F.signBit : 0
        switch (first.kind, second.kind) {
        case (.infinite, .zero), (.zero, .infinite): return invalid(F.self)
        case (.infinite, _), (_, .infinite):
            noteDenormals(first, second)
            return sign | F.infinity
        case (.zero, _), (_, .zero):
            noteDenormals(first, second)
            return sign
        default: break
        }
        noteDenormals(first, second)
        let (high, low) = first.significand.multipliedFullWidth(by: second.significand)
        var significand = high << 2 | low >> 62 | (low << 2 == 0 ? 0 : 1)
        var exponent = first.exponent + second.exponent
        if significand >> 63 != 0 {
            significand = significand.shiftedRightSticky(1)
            exponent += 1
        }
        return pack(UnpackedFloat(isNegative: isNegative, exponent: exponent, significand: significand), F.self)
    }

    mutating func quotient<F: FloatFormat>(_ a: F.Bits, _ b: F.Bits, _ format: F.Type) -> F.Bits {
        let first = UnpackedFloat(a, F.self, self), second = UnpackedFloat(b, F.self, self)
        if first.isNaN || second.isNaN { return propagate(a, b, first, second, F.self) }
        let isNegative = first.isNegative != second.isNegative
        let sign: F.Bits = isNegative ? F.signBit : 0
        switch (first.kind, second.kind) {
        case (.infinite, .infinite), (.zero, .zero): return invalid(F.self)
        case (.infinite, _):
            noteDenormals(first, second)
            return sign | F.infinity
        case (_, .infinite), (.zero, _):
            noteDenormals(first, second)
            return sign
        case (_, .zero):
            raise(FloatException.zeroDivide)
            return sign | F.infinity
        default: break
        }
        noteDenormals(first, second)
        let (whole, rest) = second.significand.dividingFullWidth(
            (first.significand >> 2, first.significand << 62))
        var significand = whole | (rest == 0 ? 0 : 1)
        var exponent = first.exponent - second.exponent
        if significand >> 62 == 0 {
            significand <<= 1
            exponent -= 1
        }
        return pack(UnpackedFloat(isNegative: isNegative, exponent: exponent, significand: significand), F.self)
    }

    mutating func squareRoot<F: FloatFormat>(_ a: F.Bits, _ format: F.Type) -> F.Bits {
        let value = UnpackedFloat(a, F.self, self)
        if value.isNaN { return propagate(a, a, value, value, F.self) }
        if value.kind == .zero { return value.isNegative ? F.signBit : 0 }
        if value.isNegative { return invalid(F.self) }
        noteDenormals(value, value)
        if value.kind == .infinite { return F.infinity }
        // The root of significand * 2^62, or of twice that where the exponent is odd, has its highest bit at 62.
        let isOdd = value.exponent & 1 != 0
        let radicand = UInt128(value.significand) << (isOdd ? 63 : 62)
        var root: UInt64 = 0
        var bit = 1 << 62 as UInt64
        while bit != 0 {
            let next = root | bit
            let (high, low) = next.multipliedFullWidth(by: next)
            if UInt128(high) << 64 | UInt128(low) <= radicand { root = next }
            bit >>= 1
        }
        let (high, low) = root.multipliedFullWidth(by: root)
        let isExact = UInt128(high) << 64 | UInt128(low) == radicand
        let result = UnpackedFloat(
            isNegative: false, exponent: (value.exponent - (isOdd ? 1 : 0)) / 2, significand: root | (isExact ? 0 : 1))
        return pack(result, F.self)
    }

    // MARK: - Comparison

    enum Order { case less, equal, greater, unordered }

    /// - Parameter quietIsInvalid: whether a QNaN is an invalid operand too.
    mutating func order<F: FloatFormat>(
        _ a: F.Bits, _ b: F.Bits, quietIsInvalid: Bool, _ format: F.Type
    ) -> Order {
        let first = UnpackedFloat(a, F.self, self), second = UnpackedFloat(b, F.self, self)
        if first.isNaN || second.isNaN {
            if quietIsInvalid || first.kind == .signalingNaN || second.kind == .signalingNaN {
                raise(FloatException.invalid)
            }
            return .unordered
        }
        noteDenormals(first, second)
        if first.kind == .zero, second.kind == .zero { return .equal }
        if first.kind == .zero { return second.isNegative ? .greater : .less }
        if second.kind == .zero { return first.isNegative ? .less : .greater }
        if first.isNegative != second.isNegative { return first.isNegative ? .less : .greater }
        if a == b { return .equal }
        return (a < b) != first.isNegative ? .less : .greater
    }

    /// MIN and MAX give the second operand where one is a NaN or both are zeros: SDM vol. 2, MINPS.
    mutating func extreme<F: FloatFormat>(
        _ a: F.Bits, _ b: F.Bits, wants wanted: Order, _ format: F.Type
    ) -> F.Bits {
        order(a, b, quietIsInvalid: true, F.self) == wanted ? withoutDenormal(a, F.self) : withoutDenormal(b, F.self)
    }

    private func withoutDenormal<F: FloatFormat>(_ a: F.Bits, _ format: F.Type) -> F.Bits {
        denormalsAreZeros && a & F.infinity == 0 ? a & F.signBit : a
    }

    // MARK: - Conversions

    mutating func converted<From: FloatFormat, To: FloatFormat>(
        _ a: From.Bits, from: From.Type, to: To.Type
    ) -> To.Bits {
        let value = UnpackedFloat(a, From.self, self)
        let sign: To.Bits = value.isNegative ? To.signBit : 0
        switch value.kind {
        case .zero: return sign
        case .infinite: return sign | To.infinity
        case .quietNaN, .signalingNaN:
            if value.kind == .signalingNaN { raise(FloatException.invalid) }
            // The upper bits of the fraction are kept.
            let fraction = UInt64(truncatingIfNeeded: a & From.fractionMask) << UInt64(62 - From.fractionBits)
            let kept = To.Bits(truncatingIfNeeded: fraction >> UInt64(62 - To.fractionBits))
            return sign | To.infinity | kept | To.quietBit
        case .finite:
            noteDenormals(value, value)
            return pack(value, To.self)
        }
    }

    mutating func converted<F: FloatFormat>(integer: Int64, to: F.Type) -> F.Bits {
        guard integer != 0 else { return 0 }
        let magnitude = integer.magnitude
        let shift = magnitude.leadingZeroBitCount - 1
        // 2^63 itself needs one bit more than there is.
        let significand = shift < 0 ? magnitude >> 1 : magnitude << UInt64(shift)
        return pack(
            UnpackedFloat(isNegative: integer < 0, exponent: 62 - shift, significand: significand), F.self)
    }

    /// - Returns: nil where the value has no place in the integer, which is invalid.
    mutating func integer<F: FloatFormat>(
        _ a: F.Bits, bits: Int, truncating: Bool, _ format: F.Type
    ) -> Int64? {
        let value = UnpackedFloat(a, F.self, self)
        if value.kind == .zero { return 0 }
        guard value.kind == .finite, value.exponent < 64 else {
            raise(FloatException.invalid)
            return nil
        }
        let rounding = truncating ? FloatRounding.zero : rounding
        var magnitude: UInt64
        var isInexact = false
        if value.exponent > 62 {
            magnitude = value.significand << 1
        } else {
            let dropped = min(62 - value.exponent, 63)
            let shifted =
                value.exponent < -1 ? value.significand.shiftedRightSticky(-1 - value.exponent) : value.significand
            isInexact = dropped > 0 && shifted & (1 << UInt64(dropped) - 1) != 0
            magnitude =
                dropped == 0
                ? shifted
                : shifted.rounded(
                    dropping: dropped, isNegative: value.isNegative, rounding)
        }
        let limit = 1 << UInt64(bits - 1) as UInt64
        guard value.isNegative ? magnitude <= limit : magnitude < limit else {
            raise(FloatException.invalid)
            return nil
        }
        if isInexact { raise(FloatException.precision) }
        return value.isNegative ? Int64(bitPattern: 0 &- magnitude) : Int64(bitPattern: magnitude)
    }
}
