// Operations that only move lanes: SDM vol. 2, under each mnemonic.

extension Vector128 {
    /// The lanes of one half of `a` and `b`, in turns.
    @inline(never) static func unpacked(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .punpcklbw: return interleaved(a.bytes.lowHalf, b.bytes.lowHalf)
        case .punpckhbw: return interleaved(a.bytes.highHalf, b.bytes.highHalf)
        case .punpcklwd: return interleaved(a.halves.lowHalf, b.halves.lowHalf)
        case .punpckhwd: return interleaved(a.halves.highHalf, b.halves.highHalf)
        case .punpckldq: return Self(SIMD4(a.doubles[0], b.doubles[0], a.doubles[1], b.doubles[1]))
        case .punpckhdq: return Self(SIMD4(a.doubles[2], b.doubles[2], a.doubles[3], b.doubles[3]))
        case .punpcklqdq: return Self(low: a.low, high: b.low)
        default: return Self(low: a.high, high: b.high)
        }
    }

    @inline(__always) private static func interleaved(_ a: SIMD8<UInt8>, _ b: SIMD8<UInt8>) -> Self {
        var result = SIMD16<UInt8>()
        result.evenHalf = a
        result.oddHalf = b
        return Self(result)
    }
    @inline(__always) private static func interleaved(_ a: SIMD4<UInt16>, _ b: SIMD4<UInt16>) -> Self {
        var result = SIMD8<UInt16>()
        result.evenHalf = a
        result.oddHalf = b
        return Self(result)
    }

    /// - Parameter order: two bits a lane of the result, the lowest first.
    @inline(never) static func shuffled(_ operation: VectorOperation, _ a: Self, _ b: Self, order: UInt8) -> Self {
        func pick(_ place: Int) -> Int { Int(order >> UInt8(place * 2) & 3) }
        switch operation {
        case .pshufd: return Self(SIMD4(b.doubles[pick(0)], b.doubles[pick(1)], b.doubles[pick(2)], b.doubles[pick(3)]))
        case .shufps: return Self(SIMD4(a.doubles[pick(0)], a.doubles[pick(1)], b.doubles[pick(2)], b.doubles[pick(3)]))
        case .shufpd:
            return Self(low: order & 1 == 0 ? a.low : a.high, high: order & 2 == 0 ? b.low : b.high)
        case .pshuflw:
            var result = b.halves
            for place in 0..<4 { result[place] = b.halves[pick(place)] }
            return Self(result)
        default:  // PSHUFHW
            var result = b.halves
            for place in 0..<4 { result[4 + place] = b.halves[4 + pick(place)] }
            return Self(result)
        }
    }
}
