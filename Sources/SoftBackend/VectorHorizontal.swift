// Operations of SSSE3 and SSE4.1 on integer lanes, and those across them: SDM vol. 2, under each mnemonic.

extension Vector128 {
    // MARK: SSSE3

    /// Sums or differences of neighbours: of `a` in the lower half, of `b` in the upper.
    @inline(never) static func neighbours(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .phaddw: Self(pairs(a.signedHalves, b.signedHalves) { $0 &+ $1 })
        case .phaddd: Self(pairs(a.signedDoubles, b.signedDoubles) { $0 &+ $1 })
        case .phaddsw: Self(pairs(a.signedHalves, b.signedHalves) { Int16(clamping: Int32($0) + Int32($1)) })
        case .phsubw: Self(pairs(a.signedHalves, b.signedHalves) { $0 &- $1 })
        case .phsubd: Self(pairs(a.signedDoubles, b.signedDoubles) { $0 &- $1 })
        default: Self(pairs(a.signedHalves, b.signedHalves) { Int16(clamping: Int32($0) - Int32($1)) })
        }
    }

    @inline(__always) private static func pairs<V: SIMD>(
        _ a: V, _ b: V, _ body: (V.Scalar, V.Scalar) -> V.Scalar
    ) -> V {
        var result = V()
        let half = a.scalarCount / 2
        for index in 0..<half {
            result[index] = body(a[index * 2], a[index * 2 + 1])
            result[half + index] = body(b[index * 2], b[index * 2 + 1])
        }
        return result
    }

    /// Magnitudes, signs, and products that keep their upper part.
    @inline(never) static func signed(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pabsb: return Self(b.signedBytes.replacing(with: 0 &- b.signedBytes, where: b.signedBytes .< 0))
        case .pabsw: return Self(b.signedHalves.replacing(with: 0 &- b.signedHalves, where: b.signedHalves .< 0))
        case .pabsd: return Self(b.signedDoubles.replacing(with: 0 &- b.signedDoubles, where: b.signedDoubles .< 0))
        case .psignb:
            let turned = a.signedBytes.replacing(with: 0 &- a.signedBytes, where: b.signedBytes .< 0)
            return Self(turned.replacing(with: 0, where: b.signedBytes .== 0))
        case .psignw:
            let turned = a.signedHalves.replacing(with: 0 &- a.signedHalves, where: b.signedHalves .< 0)
            return Self(turned.replacing(with: 0, where: b.signedHalves .== 0))
        case .psignd:
            let turned = a.signedDoubles.replacing(with: 0 &- a.signedDoubles, where: b.signedDoubles .< 0)
            return Self(turned.replacing(with: 0, where: b.signedDoubles .== 0))
        case .pmaddubsw:
            var result = SIMD8<Int16>()
            for index in 0..<8 {
                let first = Int32(a.bytes[index * 2]) * Int32(b.signedBytes[index * 2])
                let second = Int32(a.bytes[index * 2 + 1]) * Int32(b.signedBytes[index * 2 + 1])
                result[index] = Int16(clamping: first + second)
            }
            return Self(result)
        default:  // PMULHRSW
            var result = SIMD8<Int16>()
            for index in 0..<8 {
                let product = Int32(a.signedHalves[index]) * Int32(b.signedHalves[index])
                result[index] = Int16(truncatingIfNeeded: (product >> 14 + 1) >> 1)
            }
            return Self(result)
        }
    }

    /// PSHUFB: bytes of `a` in the order that `b` has.
    ///
    /// - Parameter count: bytes of the register: 16, or 8 for one of MMX.
    func picked(by order: Self, of count: UInt8 = 16) -> Self {
        var result = SIMD16<UInt8>()
        for index in 0..<16 where order.bytes[index] & 0x80 == 0 {
            result[index] = bytes[Int(order.bytes[index] & (count - 1))]
        }
        return Self(result)
    }

    /// PALIGNR: 16 bytes from byte `count` of `low` with `self` above it.
    func aligned(above low: Self, by count: UInt64) -> Self {
        count < 16
            ? Self(low.shiftedRight(bytes: count).words | shiftedLeft(bytes: 16 - count).words)
            : shiftedRight(bytes: count - 16)
    }

    // MARK: SSE4.1 and SSE4.2

    @inline(never) static func wide(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pmuldq:
            let low = Int64(a.signedDoubles[0]) * Int64(b.signedDoubles[0])
            let high = Int64(a.signedDoubles[2]) * Int64(b.signedDoubles[2])
            return Self(low: UInt64(bitPattern: low), high: UInt64(bitPattern: high))
        case .pmulld: return Self(a.doubles &* b.doubles)
        case .pcmpeqq: return Self(low: a.low == b.low ? .max : 0, high: a.high == b.high ? .max : 0)
        case .pcmpgtq:
            func isGreater(_ a: UInt64, _ b: UInt64) -> Bool { Int64(bitPattern: a) > Int64(bitPattern: b) }
            return Self(low: isGreater(a.low, b.low) ? .max : 0, high: isGreater(a.high, b.high) ? .max : 0)
        case .pminsb: return Self(a.signedBytes.replacing(with: b.signedBytes, where: b.signedBytes .< a.signedBytes))
        case .pmaxsb: return Self(a.signedBytes.replacing(with: b.signedBytes, where: b.signedBytes .> a.signedBytes))
        case .pminuw: return Self(a.halves.replacing(with: b.halves, where: b.halves .< a.halves))
        case .pmaxuw: return Self(a.halves.replacing(with: b.halves, where: b.halves .> a.halves))
        case .pminud: return Self(a.doubles.replacing(with: b.doubles, where: b.doubles .< a.doubles))
        case .pmaxud: return Self(a.doubles.replacing(with: b.doubles, where: b.doubles .> a.doubles))
        case .pminsd:
            return Self(a.signedDoubles.replacing(with: b.signedDoubles, where: b.signedDoubles .< a.signedDoubles))
        case .pmaxsd:
            return Self(a.signedDoubles.replacing(with: b.signedDoubles, where: b.signedDoubles .> a.signedDoubles))
        case .packusdw:
            var result = SIMD8<UInt16>()
            for index in 0..<4 {
                result[index] = UInt16(clamping: a.signedDoubles[index])
                result[index + 4] = UInt16(clamping: b.signedDoubles[index])
            }
            return Self(result)
        default:  // PHMINPOSUW
            var place = 0
            for index in 1..<8 where b.halves[index] < b.halves[place] { place = index }
            return Self(low: UInt64(b.halves[place]) | UInt64(place) << 16)
        }
    }

    /// MPSADBW: sums of differences of four bytes of `b` and of those from eight places of `a` on.
    static func differences(_ a: Self, _ b: Self, places: UInt64) -> Self {
        let first = Int(places >> 2 & 1) * 4, second = Int(places & 3) * 4
        var result = SIMD8<UInt16>()
        for index in 0..<8 {
            for byte in 0..<4 {
                let (left, right) = (a.bytes[first + index + byte], b.bytes[second + byte])
                result[index] += UInt16(left > right ? left - right : right - left)
            }
        }
        return Self(result)
    }

    /// PMOVSX and PMOVZX: the lowest lanes, made wider.
    ///
    /// - Parameters:
    ///   - from: bytes of a lane before: 1, 2, 4.
    ///   - to: after: 2, 4, 8.
    func widened(from: Int, to: Int, signed: Bool) -> Self {
        var result = SIMD16<UInt8>()
        for lane in 0..<16 / to {
            let isNegative = signed && bytes[lane * from + from - 1] & 0x80 != 0
            for byte in 0..<to {
                result[lane * to + byte] = byte < from ? bytes[lane * from + byte] : isNegative ? 0xFF : 0
            }
        }
        return Self(result)
    }

    /// PBLENDVB and its like: lanes of `b` where the highest bit of the mask's lane is set.
    func blended(_ b: Self, mask: Self, laneBytes: Int) -> Self {
        var result = bytes
        for index in 0..<16 where mask.bytes[index / laneBytes * laneBytes + laneBytes - 1] & 0x80 != 0 {
            result[index] = b.bytes[index]
        }
        return Self(result)
    }

    /// PBLENDW and its like: lanes of `b` where a bit is set.
    func blended(_ b: Self, bits: UInt64, laneBytes: Int) -> Self {
        var result = bytes
        for index in 0..<16 where bits >> UInt64(index / laneBytes) & 1 != 0 { result[index] = b.bytes[index] }
        return Self(result)
    }

    /// INSERTPS: bits 4 and 5 say where, bits 0 to 3 which lanes are zero then.
    func inserting(_ value: UInt32, by immediate: UInt64) -> Self {
        var lanes = doubles
        lanes[Int(immediate >> 4 & 3)] = value
        for lane in 0..<4 where immediate >> UInt64(lane) & 1 != 0 { lanes[lane] = 0 }
        return Self(lanes)
    }
}
