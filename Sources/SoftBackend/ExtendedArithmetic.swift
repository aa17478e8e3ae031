// Arithmetic of the x87 unit, with its exceptions: SDM vol. 1, sections 4.8, 4.9 and 8.5.

extension FloatEnvironment {
    /// What the x87 control word asks for: SDM vol. 1, section 8.1.5.
    init(controlWord: UInt16, isIntel: Bool) {
        self.init(
            rounding: FloatRounding(rawValue: UInt32(controlWord >> 10 & 3)) ?? .nearestEven,
            masks: UInt32(controlWord) & FloatException.all,
            // Table 8-2; the reserved value does as the widest.
            precision: [24, 64, 53, 64][Int(controlWord >> 8 & 3)])
        self.isIntel = isIntel
    }

    /// Whether an exception that is known before a result is not masked: there is no result then.
    var hasNoResult: Bool { exceptions & FloatException.preComputation & ~masks != 0 }

    // MARK: - Results

    /// What an unmasked overflow takes off the exponent, and an unmasked underflow adds: SDM vol. 1, section 8.5.4.
    private static var exponentAdjustment: Int { 24576 }

    /// Rounds to a register.
    ///
    /// - Parameter precision: of the significand, bits; nil for what the control word says.
    mutating func pack(_ value: WideFloat, precision wanted: Int? = nil) -> ExtendedFloat {
        let precision = wanted ?? precision
        var exponent = value.exponent + ExtendedFloat.bias
        if exponent <= 0 { return packTiny(value, exponent, precision) }
        let (significand, carries) = round(value.significand, value.isNegative, precision)
        exponent += carries ? 1 : 0
        let isInexact = value.significand << UInt128(precision) != 0
        if exponent >= ExtendedFloat.exponentMax {
            raise(FloatException.overflow)
            if masks & FloatException.overflow != 0 {
                raise(FloatException.precision)
                let staysFinite = rounding.staysFinite(isNegative: value.isNegative)
                roundedUp = !staysFinite
                return staysFinite
                    ? ExtendedFloat(
                        isNegative: value.isNegative, exponent: ExtendedFloat.exponentMax - 1,
                        significand: .max << UInt64(64 - precision))
                    : .infinity(isNegative: value.isNegative)
            }
            exponent -= Self.exponentAdjustment
            if exponent >= ExtendedFloat.exponentMax {
                // FSCALE goes further than the adjustment reaches.
                raise(FloatException.precision)
                roundedUp = true
                return .infinity(isNegative: value.isNegative)
            }
        }
        if isInexact { raise(FloatException.precision) }
        return ExtendedFloat(isNegative: value.isNegative, exponent: exponent, significand: significand)
    }

    /// A result below the smallest normal number. Tininess is seen after rounding: SDM vol. 1, section 4.9.1.5.
    private mutating func packTiny(_ value: WideFloat, _ biased: Int, _ precision: Int) -> ExtendedFloat {
        let (unbounded, carries) = round(value.significand, value.isNegative, precision)
        let isTiny = biased < 0 || !carries
        if isTiny, masks & FloatException.underflow == 0 {
            raise(FloatException.underflow)
            if value.significand << UInt128(precision) != 0 { raise(FloatException.precision) }
            let exponent = biased + (carries ? 1 : 0) + Self.exponentAdjustment
            if exponent > 0 {
                return ExtendedFloat(isNegative: value.isNegative, exponent: exponent, significand: unbounded)
            }
            raise(FloatException.precision)
            roundedUp = false
            return .zero(isNegative: value.isNegative)
        }
        let shifted = value.significand.shiftedRightSticky(1 - biased)
        let isInexact = shifted << UInt128(precision) != 0
        if isInexact { raise(isTiny ? FloatException.underflow | FloatException.precision : FloatException.precision) }
        // A carry, of whatever is not normalised, makes it the smallest normal number.
        let (significand, _) = round(shifted, value.isNegative, precision)
        let isNormal = significand & ExtendedFloat.integerBit != 0
        return ExtendedFloat(isNegative: value.isNegative, exponent: isNormal ? 1 : 0, significand: significand)
    }

    /// The highest 64 bits, rounded to `precision` of them. Where that carries out of the highest, it is 1.0.
    private mutating func round(
        _ wide: UInt128, _ isNegative: Bool, _ precision: Int
    ) -> (significand: UInt64, carries: Bool) {
        let dropped = UInt128(128 - precision)
        let rest = wide & (1 << dropped - 1)
        let whole = UInt64(truncatingIfNeeded: wide >> dropped)
        let goesUp = rounding.goesUp(
            rest: rest, half: 1 << (dropped - 1), isOdd: whole & 1 != 0, isNegative: isNegative)
        roundedUp = goesUp
        guard goesUp else { return (whole << UInt64(64 - precision), false) }
        let (sum, overflows) = whole.addingReportingOverflow(1)
        // Of fewer bits than 64 the carry is not lost, but stands above them.
        if overflows || precision < 64 && sum >> UInt64(precision) != 0 { return (ExtendedFloat.integerBit, true) }
        return (sum << UInt64(64 - precision), false)
    }

    /// Rounds to a narrower format.
    ///
    /// - Returns: nil where an exception is not masked that keeps the result from memory (SDM vol. 1, section 8.5).
    mutating func narrowed<F: FloatFormat>(_ number: ExtendedFloat, _ format: F.Type) -> F.Bits? {
        let value = ExtendedOperand(number)
        let sign: F.Bits = value.isNegative ? F.signBit : 0
        switch value.kind {
        case .zero: return sign
        case .infinite: return sign | F.infinity
        case .unsupported:
            raise(FloatException.invalid)
            return hasNoResult ? nil : F.indefinite
        case .quietNaN, .signalingNaN:
            if value.kind == .signalingNaN { raise(FloatException.invalid) }
            if hasNoResult { return nil }
            let fraction = F.Bits(truncatingIfNeeded: (value.significand << 1) >> UInt64(64 - F.fractionBits))
            return sign | F.infinity | fraction | F.quietBit
        case .finite:
            let result = pack(
                UnpackedFloat(
                    isNegative: value.isNegative, exponent: value.exponent,
                    significand: value.significand.shiftedRightSticky(1)), F.self)
            let keeps = FloatException.overflow | FloatException.underflow
            guard exceptions & keeps & ~masks != 0 else { return result }
            exceptions &= ~FloatException.precision
            roundedUp = false
            return nil
        }
    }

    // MARK: - NaNs

    mutating func invalid() -> ExtendedFloat {
        raise(FloatException.invalid)
        return .indefinite
    }

    /// The NaN that comes of operands that are none or unsupported: SDM vol. 1, table 4-7, for x87.
    ///
    /// - Returns: nil where there is nothing of the kind.
    mutating func propagated(_ a: ExtendedOperand, _ b: ExtendedOperand) -> ExtendedFloat? {
        if a.kind == .unsupported || b.kind == .unsupported { return invalid() }
        guard a.isNaN || b.isNaN else { return nil }
        if a.kind == .signalingNaN || b.kind == .signalingNaN { raise(FloatException.invalid) }
        var result = b.isNaN ? b.register : a.register
        if a.isNaN, b.isNaN {
            if a.kind != b.kind {
                // The one that was quiet before.
                result = a.kind == .quietNaN ? a.register : b.register
            } else if a.significand != b.significand {
                result = a.significand > b.significand ? a.register : b.register
            } else {
                result = a.isNegative ? b.register : a.register
            }
        }
        result.significand |= ExtendedFloat.quietBit
        return result
    }

    mutating func propagated(_ a: ExtendedOperand) -> ExtendedFloat? { propagated(a, a) }

    mutating func noteDenormals(_ a: ExtendedOperand, _ b: ExtendedOperand) {
        if a.isDenormal || b.isDenormal { raise(FloatException.denormal) }
    }

    // MARK: - Arithmetic

    mutating func sum(_ a: ExtendedOperand, _ b: ExtendedOperand, negating: Bool = false) -> ExtendedFloat {
        if let nan = propagated(a, b) { return nan }
        var b = b
        if negating { b.isNegative.toggle() }
        if a.kind == .infinite, b.kind == .infinite, a.isNegative != b.isNegative { return invalid() }
        noteDenormals(a, b)
        switch (a.kind, b.kind) {
        case (.infinite, _): return .infinity(isNegative: a.isNegative)
        case (_, .infinite): return .infinity(isNegative: b.isNegative)
        case (.zero, .zero):
            return .zero(isNegative: a.isNegative == b.isNegative ? a.isNegative : rounding == .down)
        case (.zero, _): return pack(WideFloat(b))
        case (_, .zero): return pack(WideFloat(a))
        default:
            guard let sum = WideFloat(a) + WideFloat(b) else { return .zero(isNegative: rounding == .down) }
            return pack(sum)
        }
    }

    mutating func product(_ a: ExtendedOperand, _ b: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a, b) { return nan }
        let isNegative = a.isNegative != b.isNegative
        let hasInfinity = a.kind == .infinite || b.kind == .infinite, hasZero = a.kind == .zero || b.kind == .zero
        if hasInfinity, hasZero { return invalid() }
        noteDenormals(a, b)
        if hasInfinity { return .infinity(isNegative: isNegative) }
        if hasZero { return .zero(isNegative: isNegative) }
        return pack(WideFloat(a) * WideFloat(b))
    }

    mutating func quotient(_ a: ExtendedOperand, _ b: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a, b) { return nan }
        let isNegative = a.isNegative != b.isNegative
        switch (a.kind, b.kind) {
        case (.infinite, .infinite), (.zero, .zero): return invalid()
        case (.infinite, _):
            noteDenormals(a, b)
            return .infinity(isNegative: isNegative)
        case (_, .infinite), (.zero, _):
            noteDenormals(a, b)
            return .zero(isNegative: isNegative)
        case (_, .zero):
            raise(FloatException.zeroDivide)
            return .infinity(isNegative: isNegative)
        default:
            noteDenormals(a, b)
            return pack(WideFloat(a) / WideFloat(b))
        }
    }

    mutating func squareRoot(_ a: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a) { return nan }
        if a.kind == .zero { return a.register }
        if a.isNegative { return invalid() }
        noteDenormals(a, a)
        if a.kind == .infinite { return a.register }
        return pack(WideFloat(a).squareRoot)
    }

    /// FSCALE: the first times two to the second, whose fraction does not count.
    mutating func scaled(_ a: ExtendedOperand, by b: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a, b) { return nan }
        if b.kind == .infinite {
            if b.isNegative ? a.kind == .infinite : a.kind == .zero { return invalid() }
            noteDenormals(a, b)
            return b.isNegative || a.kind == .zero
                ? .zero(isNegative: a.isNegative) : .infinity(isNegative: a.isNegative)
        }
        noteDenormals(a, b)
        guard a.kind == .finite else { return a.register }
        if b.kind == .zero { return unchanged(a) }
        // Beyond every exponent there is.
        let limit = 1 << 17
        var power = 0
        if b.kind == .finite, b.exponent >= 0 {
            power = b.exponent >= 17 ? limit : Int(b.significand >> UInt64(63 - b.exponent))
        }
        return pack(WideFloat(a).scaled(by: b.isNegative ? -power : power), precision: 64)
    }

    /// A finite operand that is the result: to processors of Intel never too small, to those of AMD like any other.
    private mutating func unchanged(_ a: ExtendedOperand) -> ExtendedFloat {
        isIntel ? a.register : pack(WideFloat(a), precision: 64)
    }

    // MARK: - Remainders

    struct Remainder {
        var number: ExtendedFloat
        /// Of which the lowest three bits count; nil where there is none, or none yet.
        var quotient: UInt64?
        /// Whether this is the remainder, or only closer to it.
        var isComplete = true
    }

    /// FPREM, or FPREM1 with its quotient rounded to the nearest: SDM vol. 2, FPREM.
    mutating func remainder(_ a: ExtendedOperand, _ b: ExtendedOperand, toNearest: Bool) -> Remainder {
        if let nan = propagated(a, b) { return Remainder(number: nan) }
        if a.kind == .infinite || b.kind == .zero { return Remainder(number: invalid()) }
        noteDenormals(a, b)
        if a.kind == .zero { return Remainder(number: a.register, quotient: 0) }
        let difference = a.exponent - b.exponent
        if b.kind == .infinite { return Remainder(number: unchanged(a), quotient: 0) }
        if difference < (toNearest ? -1 : 0) {
            return Remainder(number: pack(WideFloat(a), precision: 64), quotient: 0)
        }
        // So many bits of the quotient at once as the manual allows, and processors find.
        let isComplete = difference < 64
        let steps = isComplete ? max(difference, 0) : difference & 0x1F | 0x20
        let left = difference - steps
        var rest = UInt128(a.significand) << 1
        // The divisor has its bit as high as the dividend, or one above it where the dividend is smaller.
        let divisor = UInt128(b.significand) << (difference < 0 ? 2 : 1)
        let scale = difference < 0 ? a.exponent : b.exponent + left
        var quotient: UInt64 = 0
        for step in 0...steps {
            quotient <<= 1
            if rest >= divisor {
                rest -= divisor
                quotient |= 1
            }
            if step < steps { rest <<= 1 }
        }
        var isNegative = a.isNegative
        if toNearest, isComplete, rest << 1 > divisor || rest << 1 == divisor && quotient & 1 != 0 {
            rest = divisor - rest
            quotient &+= 1
            isNegative.toggle()
        }
        // The significands stand at bits 1 to 64 of 128.
        let number =
            rest == 0
            ? .zero(isNegative: a.isNegative)
            : pack(WideFloat(isNegative: isNegative, exponent: scale + 63, normalizing: rest), precision: 64)
        return Remainder(number: number, quotient: isComplete ? quotient : nil, isComplete: isComplete)
    }

    // MARK: - Comparison

    /// - Parameter quietIsInvalid: whether a QNaN is an invalid operand too.
    mutating func order(_ a: ExtendedOperand, _ b: ExtendedOperand, quietIsInvalid: Bool) -> Order {
        let isUnsupported = a.kind == .unsupported || b.kind == .unsupported
        if isUnsupported || a.isNaN || b.isNaN {
            let signals = a.kind == .signalingNaN || b.kind == .signalingNaN
            if isUnsupported || signals || quietIsInvalid { raise(FloatException.invalid) }
            return .unordered
        }
        noteDenormals(a, b)
        if a.kind == .zero, b.kind == .zero { return .equal }
        if a.kind == .zero { return b.isNegative ? .greater : .less }
        if b.kind == .zero || a.isNegative != b.isNegative { return a.isNegative ? .less : .greater }
        let larger: Order = a.isNegative ? .less : .greater, smaller: Order = a.isNegative ? .greater : .less
        switch (a.kind, b.kind) {
        case (.infinite, .infinite): return .equal
        case (.infinite, _): return larger
        case (_, .infinite): return smaller
        default: break
        }
        if a.exponent == b.exponent, a.significand == b.significand { return .equal }
        return (a.exponent, a.significand) > (b.exponent, b.significand) ? larger : smaller
    }

    // MARK: - Integers

    /// - Returns: nil where the value has no place in the integer, which is invalid.
    mutating func integer(_ a: ExtendedOperand, bits: Int, truncating: Bool = false) -> Int64? {
        if a.kind == .zero { return 0 }
        guard a.kind == .finite, a.exponent < 64 else {
            raise(FloatException.invalid)
            return nil
        }
        let whole = whole(a, truncating ? .zero : rounding)
        let limit = 1 << UInt128(bits - 1) as UInt128
        guard a.isNegative ? whole.magnitude <= limit : whole.magnitude < limit else {
            raise(FloatException.invalid)
            return nil
        }
        note(whole)
        let value = UInt64(truncatingIfNeeded: whole.magnitude)
        return Int64(bitPattern: a.isNegative ? 0 &- value : value)
    }

    private struct Whole {
        var magnitude: UInt128
        var isInexact: Bool
        var goesUp: Bool
    }

    private mutating func note(_ whole: Whole) {
        guard whole.isInexact else { return }
        raise(FloatException.precision)
        roundedUp = whole.goesUp
    }

    /// - Parameter a: finite, below 2^64.
    private func whole(_ a: ExtendedOperand, _ rounding: FloatRounding) -> Whole {
        // 64 bits before the point, 64 after it.
        let wide = (UInt128(a.significand) << 64).shiftedRightSticky(63 - a.exponent)
        let fraction = UInt64(truncatingIfNeeded: wide)
        let magnitude = wide >> 64
        let goesUp = rounding.goesUp(
            rest: fraction, half: 1 << 63, isOdd: magnitude & 1 != 0, isNegative: a.isNegative)
        return Whole(magnitude: goesUp ? magnitude + 1 : magnitude, isInexact: fraction != 0, goesUp: goesUp)
    }

    /// FRNDINT.
    mutating func roundedToInteger(_ a: ExtendedOperand) -> ExtendedFloat {
        if let nan = propagated(a) { return nan }
        noteDenormals(a, a)
        guard a.kind == .finite, a.exponent < 63 else { return a.register }
        if hasNoResult { return a.register }
        let whole = whole(a, rounding)
        let result =
            whole.magnitude == 0
            ? .zero(isNegative: a.isNegative)
            : pack(WideFloat(isNegative: a.isNegative, exponent: 127, normalizing: whole.magnitude), precision: 64)
        note(whole)
        return result
    }
}
