// Rounds and message schedules of SHA-1 and SHA-256 (FIPS 180-4, section 6) as SHA1RNDS4 and its like have them: SDM
// vol. 2, under each. Words stand with the first in the highest lane for SHA-1, in the lowest for SHA-256.

extension UInt32 {
    fileprivate func rotated(left count: UInt32) -> UInt32 { self << count | self >> (32 - count) }
    fileprivate func rotated(right count: UInt32) -> UInt32 { rotated(left: 32 - count) }

    /// FIPS 180-4, section 4.1.2: the small sigmas, of the message schedule.
    fileprivate var sigma0: UInt32 { rotated(right: 7) ^ rotated(right: 18) ^ self >> 3 }
    fileprivate var sigma1: UInt32 { rotated(right: 17) ^ rotated(right: 19) ^ self >> 10 }
    /// The large ones, of the rounds.
    fileprivate var sum0: UInt32 { rotated(right: 2) ^ rotated(right: 13) ^ rotated(right: 22) }
    fileprivate var sum1: UInt32 { rotated(right: 6) ^ rotated(right: 11) ^ rotated(right: 25) }
}

private func choose(_ x: UInt32, _ y: UInt32, _ z: UInt32) -> UInt32 { x & y ^ ~x & z }
private func majority(_ x: UInt32, _ y: UInt32, _ z: UInt32) -> UInt32 { x & y ^ x & z ^ y & z }

extension Vector128 {
    /// - Parameters:
    ///   - state: of the first operand.
    ///   - message: the second.
    ///   - added: XMM0, where the instruction reads it.
    ///   - rounds: the immediate of SHA1RNDS4.
    @inline(never) static func hashed(
        _ operation: VectorOperation, _ state: Self, _ message: Self, added: Self, rounds: UInt64
    ) -> Self {
        let (a, b) = (state.doubles, message.doubles)
        switch operation {
        case .sha1rnds4: return Self(sha1Rounds(a, b, function: rounds & 3))
        case .sha1nexte: return Self(SIMD4(b[0], b[1], b[2], b[3] &+ a[3].rotated(left: 30)))
        case .sha1msg1: return Self(SIMD4(b[2] ^ a[0], b[3] ^ a[1], a[0] ^ a[2], a[1] ^ a[3]))
        case .sha1msg2:
            let first = (a[3] ^ b[2]).rotated(left: 1)
            return Self(
                SIMD4(
                    (a[0] ^ first).rotated(left: 1), (a[1] ^ b[0]).rotated(left: 1), (a[2] ^ b[1]).rotated(left: 1),
                    first))
        case .sha256rnds2: return Self(sha256Rounds(a, b, added.doubles))
        case .sha256msg1:
            return Self(a &+ SIMD4(a[1].sigma0, a[2].sigma0, a[3].sigma0, b[0].sigma0))
        default:  // SHA256MSG2
            let first = a[0] &+ b[2].sigma1
            let second = a[1] &+ b[3].sigma1
            return Self(SIMD4(first, second, a[2] &+ first.sigma1, a[3] &+ second.sigma1))
        }
    }

    /// Four rounds: FIPS 180-4, section 6.1.2, step 3. E is in the first word of the message.
    private static func sha1Rounds(_ state: SIMD4<UInt32>, _ words: SIMD4<UInt32>, function: UInt64) -> SIMD4<UInt32> {
        let constants: [UInt32] = [0x5A82_7999, 0x6ED9_EBA1, 0x8F1B_BCDC, 0xCA62_C1D6]
        let constant = constants[Int(function)]
        var (a, b, c, d, e) = (state[3], state[2], state[1], state[0], UInt32(0))
        for round in 0..<4 {
            let mixed =
                switch function {
                case 0: choose(b, c, d)
                case 2: majority(b, c, d)
                default: b ^ c ^ d
                }
            let next = mixed &+ a.rotated(left: 5) &+ words[3 - round] &+ e &+ constant
            (a, b, c, d, e) = (next, a, b.rotated(left: 30), c, d)
        }
        return SIMD4(d, c, b, a)
    }

    /// Two rounds: FIPS 180-4, section 6.2.2, step 3. C, D, G and H are the first operand's, the others the second's.
    private static func sha256Rounds(
        _ first: SIMD4<UInt32>, _ second: SIMD4<UInt32>, _ words: SIMD4<UInt32>
    ) -> SIMD4<UInt32> {
        var (a, b, c, d) = (second[3], second[2], first[3], first[2])
        var (e, f, g, h) = (second[1], second[0], first[1], first[0])
        for round in 0..<2 {
            let mixed = choose(e, f, g) &+ e.sum1 &+ words[round] &+ h
            let next = mixed &+ majority(a, b, c) &+ a.sum0
            (a, b, c, d, e, f, g, h) = (next, a, b, c, mixed &+ d, e, f, g)
        }
        return SIMD4(f, e, b, a)
    }
}
