// Rounds of AES (FIPS 197) as AESENC and its like have them, and the carry-less product: SDM vol. 2, under each.

extension Vector128 {
    /// SubBytes and its inverse: FIPS 197, section 5.1.1.
    private static let substitutions: (forward: [UInt8], inverse: [UInt8]) = {
        var forward = [UInt8](repeating: 0, count: 256), inverse = forward
        for value in 0..<256 {
            let reciprocal = (0..<256).first { product(UInt8(value), UInt8($0)) == 1 } ?? 0
            let bits = UInt8(reciprocal)
            func turned(_ count: UInt8) -> UInt8 { bits << count | bits >> (8 - count) }
            let result = bits ^ turned(1) ^ turned(2) ^ turned(3) ^ turned(4) ^ 0x63
            forward[value] = result
            inverse[Int(result)] = UInt8(value)
        }
        return (forward, inverse)
    }()

    /// In GF(2^8) modulo x^8 + x^4 + x^3 + x + 1: FIPS 197, section 4.2.
    private static func product(_ a: UInt8, _ b: UInt8) -> UInt8 {
        var (a, b, result) = (a, b, UInt8(0))
        while b != 0 {
            if b & 1 != 0 { result ^= a }
            a = a << 1 ^ (a & 0x80 != 0 ? 0x1B : 0)
            b >>= 1
        }
        return result
    }

    private func substituted(by table: [UInt8]) -> Self {
        var result = bytes
        for index in 0..<16 { result[index] = table[Int(result[index])] }
        return Self(result)
    }

    /// ShiftRows: row r of each column comes from r columns further on, or back.
    private func rowsShifted(by direction: Int) -> Self {
        var result = bytes
        for index in 0..<16 { result[index] = bytes[(index + direction * 4 * (index & 3)) & 15] }
        return Self(result)
    }

    /// MixColumns with the first row of its matrix.
    private func columnsMixed(_ row: [UInt8]) -> Self {
        var result = SIMD16<UInt8>()
        for index in 0..<16 {
            for place in 0..<4 {
                result[index] ^= Self.product(bytes[index & ~3 | place], row[(place - index) & 3])
            }
        }
        return Self(result)
    }
    private static let forwardRow: [UInt8] = [2, 3, 1, 1]
    private static let inverseRow: [UInt8] = [14, 11, 13, 9]

    @inline(never) static func cipherRound(_ operation: VectorOperation, _ state: Self, key: Self) -> Self {
        let (forward, inverse) = substitutions
        let result: Self =
            switch operation {
            case .aesenc: state.rowsShifted(by: 1).substituted(by: forward).columnsMixed(forwardRow)
            case .aesenclast: state.rowsShifted(by: 1).substituted(by: forward)
            case .aesdec: state.rowsShifted(by: -1).substituted(by: inverse).columnsMixed(inverseRow)
            default: state.rowsShifted(by: -1).substituted(by: inverse)
            }
        return Self(result.words ^ key.words)
    }

    /// AESIMC.
    var withColumnsUnmixed: Self { columnsMixed(Self.inverseRow) }

    /// AESKEYGENASSIST.
    func keyAssist(constant: UInt32) -> Self {
        let words = substituted(by: Self.substitutions.forward).doubles
        func rotated(_ word: UInt32) -> UInt32 { word >> 8 | word << 24 }
        return Self(SIMD4(words[1], rotated(words[1]) ^ constant, words[3], rotated(words[3]) ^ constant))
    }

    /// PCLMULQDQ: a half of each, which bits 0 and 4 choose.
    static func carrylessProduct(_ a: Self, _ b: Self, halves: UInt64) -> Self {
        let (first, second) = (halves & 1 == 0 ? a.low : a.high, halves & 0x10 == 0 ? b.low : b.high)
        var result: UInt128 = 0
        for bit in UInt128(0)..<64 where second >> UInt64(bit) & 1 != 0 { result ^= UInt128(first) << bit }
        return Self(low: UInt64(truncatingIfNeeded: result), high: UInt64(truncatingIfNeeded: result >> 64))
    }
}
