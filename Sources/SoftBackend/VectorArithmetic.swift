// Operations on the lanes of two XMM registers: SDM vol. 2, under each mnemonic.

extension Vector128 {
    /// All ones in the lanes where the mask is set.
    @inline(__always) private init(_ mask: SIMDMask<SIMD16<Int8>>) {
        self.init(SIMD16<UInt8>(repeating: 0).replacing(with: .max, where: mask))
    }
    @inline(__always) private init(_ mask: SIMDMask<SIMD8<Int16>>) {
        self.init(SIMD8<UInt16>(repeating: 0).replacing(with: .max, where: mask))
    }
    @inline(__always) private init(_ mask: SIMDMask<SIMD4<Int32>>) {
        self.init(SIMD4<UInt32>(repeating: 0).replacing(with: .max, where: mask))
    }

    // MARK: Bits

    @inline(__always) static func bits(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pand: Self(a.words & b.words)
        case .pandn: Self(~a.words & b.words)
        case .por: Self(a.words | b.words)
        default: Self(a.words ^ b.words)
        }
    }

    // MARK: Sums and differences

    @inline(never) static func sums(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .paddb: Self(a.bytes &+ b.bytes)
        case .paddw: Self(a.halves &+ b.halves)
        case .paddd: Self(a.doubles &+ b.doubles)
        case .paddq: Self(a.words &+ b.words)
        case .psubb: Self(a.bytes &- b.bytes)
        case .psubw: Self(a.halves &- b.halves)
        case .psubd: Self(a.doubles &- b.doubles)
        default: Self(a.words &- b.words)
        }
    }

    /// Sums and differences that stay at the ends of the lane's range.
    @inline(never) static func saturatedSums(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .paddsb: Self(lanes(a.signedBytes, b.signedBytes, saturatedSum))
        case .paddsw: Self(lanes(a.signedHalves, b.signedHalves, saturatedSum))
        case .paddusb: Self(lanes(a.bytes, b.bytes, saturatedSum))
        case .paddusw: Self(lanes(a.halves, b.halves, saturatedSum))
        case .psubsb: Self(lanes(a.signedBytes, b.signedBytes, saturatedDifference))
        case .psubsw: Self(lanes(a.signedHalves, b.signedHalves, saturatedDifference))
        case .psubusb: Self(lanes(a.bytes, b.bytes, saturatedDifference))
        default: Self(lanes(a.halves, b.halves, saturatedDifference))
        }
    }

    @inline(__always) private static func saturatedSum<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
        let (sum, overflows) = a.addingReportingOverflow(b)
        return overflows ? (T.isSigned && b < 0 ? T.min : T.max) : sum
    }
    @inline(__always) private static func saturatedDifference<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
        let (difference, overflows) = a.subtractingReportingOverflow(b)
        return overflows ? (T.isSigned && b < 0 ? T.max : T.min) : difference
    }

    @inline(__always) private static func lanes<V: SIMD>(
        _ a: V, _ b: V, _ body: (V.Scalar, V.Scalar) -> V.Scalar
    ) -> V {
        var result = V()
        for index in a.indices { result[index] = body(a[index], b[index]) }
        return result
    }

    // MARK: Products

    @inline(never) static func products(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pmullw: return Self(a.halves &* b.halves)
        case .pmulhw:
            return Self(lanes(a.signedHalves, b.signedHalves) { $0.multipliedFullWidth(by: $1).high })
        case .pmulhuw: return Self(lanes(a.halves, b.halves) { $0.multipliedFullWidth(by: $1).high })
        case .pmuludq: return Self((a.words & 0xFFFF_FFFF) &* (b.words & 0xFFFF_FFFF))
        default:  // PMADDWD
            var result = SIMD4<Int32>()
            for index in 0..<4 {
                let first = Int32(a.signedHalves[index * 2]) &* Int32(b.signedHalves[index * 2])
                let second = Int32(a.signedHalves[index * 2 + 1]) &* Int32(b.signedHalves[index * 2 + 1])
                result[index] = first &+ second
            }
            return Self(result)
        }
    }

    // MARK: Averages, extremes, comparisons

    @inline(never) static func choices(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pavgb: return Self(lanes(a.bytes, b.bytes) { UInt8((UInt16($0) + UInt16($1) + 1) >> 1) })
        case .pavgw: return Self(lanes(a.halves, b.halves) { UInt16((UInt32($0) + UInt32($1) + 1) >> 1) })
        case .psadbw:
            var sums = SIMD2<UInt64>()
            for index in 0..<16 {
                let (first, second) = (a.bytes[index], b.bytes[index])
                sums[index / 8] &+= UInt64(first > second ? first - second : second - first)
            }
            return Self(sums)
        case .pminub: return Self(a.bytes.replacing(with: b.bytes, where: b.bytes .< a.bytes))
        case .pmaxub: return Self(a.bytes.replacing(with: b.bytes, where: b.bytes .> a.bytes))
        case .pminsw:
            return Self(a.signedHalves.replacing(with: b.signedHalves, where: b.signedHalves .< a.signedHalves))
        default: return Self(a.signedHalves.replacing(with: b.signedHalves, where: b.signedHalves .> a.signedHalves))
        }
    }

    @inline(never) static func comparisons(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .pcmpeqb: Self(a.bytes .== b.bytes)
        case .pcmpeqw: Self(a.halves .== b.halves)
        case .pcmpeqd: Self(a.doubles .== b.doubles)
        case .pcmpgtb: Self(a.signedBytes .> b.signedBytes)
        case .pcmpgtw: Self(a.signedHalves .> b.signedHalves)
        default: Self(a.signedDoubles .> b.signedDoubles)
        }
    }

    // MARK: Narrowing

    @inline(never) static func packed(_ operation: VectorOperation, _ a: Self, _ b: Self) -> Self {
        switch operation {
        case .packsswb: Self(narrowed(a.signedHalves, b.signedHalves, to: SIMD16<Int8>.self))
        case .packuswb: Self(narrowed(a.signedHalves, b.signedHalves, to: SIMD16<UInt8>.self))
        default: Self(narrowed(a.signedDoubles, b.signedDoubles, to: SIMD8<Int16>.self))
        }
    }

    /// The lanes of `a`, then those of `b`, at half of their width, at the ends of the range where they are beyond it.
    @inline(__always) private static func narrowed<Wide: SIMD, Narrow: SIMD>(
        _ a: Wide, _ b: Wide, to: Narrow.Type
    ) -> Narrow where Wide.Scalar: FixedWidthInteger, Narrow.Scalar: FixedWidthInteger {
        var result = Narrow()
        for index in a.indices {
            result[index] = Narrow.Scalar(clamping: a[index])
            result[index + a.scalarCount] = Narrow.Scalar(clamping: b[index])
        }
        return result
    }
}
