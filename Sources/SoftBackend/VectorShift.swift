// Shifts of lanes by one count, and of a whole register by bytes: SDM vol. 2, PSLLW, PSRLW, PSRAW, PSLLDQ, PSRLDQ.

extension Vector128 {
    /// - Parameter count: bits; beyond the lane nothing is left but, to the right with sign, the sign.
    @inline(never) func shifted(_ operation: VectorOperation, by count: UInt64) -> Self {
        switch operation {
        case .psllw: count > 15 ? Self(low: 0) : Self(halves &<< UInt16(truncatingIfNeeded: count))
        case .pslld: count > 31 ? Self(low: 0) : Self(doubles &<< UInt32(truncatingIfNeeded: count))
        case .psllq: count > 63 ? Self(low: 0) : Self(words &<< count)
        case .psrlw: count > 15 ? Self(low: 0) : Self(halves &>> UInt16(truncatingIfNeeded: count))
        case .psrld: count > 31 ? Self(low: 0) : Self(doubles &>> UInt32(truncatingIfNeeded: count))
        case .psrlq: count > 63 ? Self(low: 0) : Self(words &>> count)
        case .psraw: Self(signedHalves &>> Int16(truncatingIfNeeded: min(count, 15)))
        default: Self(signedDoubles &>> Int32(truncatingIfNeeded: min(count, 31)))
        }
    }

    func shiftedLeft(bytes count: UInt64) -> Self {
        switch count {
        case 0: self
        case 1..<8: Self(low: low &<< (count &* 8), high: high &<< (count &* 8) | low &>> (64 &- count &* 8))
        case 8..<16: Self(low: 0, high: low &<< ((count &- 8) &* 8))
        default: Self(low: 0)
        }
    }

    func shiftedRight(bytes count: UInt64) -> Self {
        switch count {
        case 0: self
        case 1..<8: Self(low: low &>> (count &* 8) | high &<< (64 &- count &* 8), high: high &>> (count &* 8))
        case 8..<16: Self(low: high &>> ((count &- 8) &* 8))
        default: Self(low: 0)
        }
    }
}
