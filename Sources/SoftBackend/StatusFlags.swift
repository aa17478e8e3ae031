// CF, PF, AF, ZF, SF and OF, kept as the last result and its carries and computed only when read.

/// The six status flags in two words.
///
/// `result` is the last result, sign-extended to 64 bits: it gives ZF, SF and PF. `carries` gives the rest:
/// bit 63 is the carry out of the top bit (CF), bit 62 the carry into it (OF is their difference), bit 0 AF.
/// A combination that no result has (ZF with SF, ZF without PF; POPF can load it) is expressed by corrections:
/// bit 1 inverts SF, bits 8 to 15 are exclusive-ored into the byte that PF is computed from. Bits 16 to 27 mark, at
/// their places in RFLAGS, the flags that the manual leaves undefined after what was executed.
struct StatusFlags {
    var result: UInt64 = 1
    var carries: UInt64 = 1 << 8
    /// AF as shifts leave it, which no manual says: 0 or 1.
    var auxiliaryAfterShift: UInt64 = 0

    /// Bits of RFLAGS that another processor may show otherwise.
    var undefined: UInt64 { carries >> 16 & RFLAGS.status }

    @inline(__always) mutating func mark(undefined flags: UInt64) { carries |= flags << 16 }

    @inline(__always) var carry: Bool { carries >> 63 != 0 }
    @inline(__always) var zero: Bool { result == 0 }
    @inline(__always) var sign: Bool { (result >> 63) ^ (carries >> 1 & 1) != 0 }
    @inline(__always) var overflow: Bool { (carries ^ carries << 1) >> 63 != 0 }
    @inline(__always) var parity: Bool {
        let byte = UInt8(truncatingIfNeeded: result ^ carries >> 8)
        return byte.nonzeroBitCount & 1 == 0
    }
    @inline(__always) var auxiliary: Bool { carries & 1 != 0 }

    /// The flags at their places in RFLAGS; settable to any combination.
    var rflags: UInt64 {
        get {
            (carry ? RFLAGS.cf : 0) | (parity ? RFLAGS.pf : 0) | (auxiliary ? RFLAGS.af : 0)
                | (zero ? RFLAGS.zf : 0) | (sign ? RFLAGS.sf : 0) | (overflow ? RFLAGS.of : 0)
        }
        set {
            // A result of 0 has even parity and no sign; 1 has odd parity and no sign.
            result = newValue & RFLAGS.zf != 0 ? 0 : 1
            let parityOfResult = result == 0
            let carryOut = newValue & RFLAGS.cf != 0
            let carryIn = carryOut != (newValue & RFLAGS.of != 0)
            carries =
                (carryOut ? 1 << 63 : 0) | (carryIn ? 1 << 62 : 0)
                | (newValue & RFLAGS.sf != 0 ? 2 : 0) | (newValue & RFLAGS.af != 0 ? 1 : 0)
                | ((newValue & RFLAGS.pf != 0) == parityOfResult ? 0 : 1 << 8)
        }
    }

    /// Replaces CF and OF, and leaves the others.
    @inline(__always) mutating func set(carry: Bool, overflow: Bool) {
        let kept = ~(3 << 62 | (RFLAGS.cf | RFLAGS.of) << 16)
        carries = carries & kept | (carry ? 1 << 63 : 0) | (carry != overflow ? 1 << 62 : 0)
    }

    /// Replaces CF and leaves the others.
    @inline(__always) mutating func set(carry: Bool) {
        // OF is the difference of both bits, and stays.
        let changed: UInt64 = self.carry != carry ? 3 << 62 : 0
        carries = (carries ^ changed) & ~(RFLAGS.cf << 16)
    }

    /// Replaces AF and leaves the others.
    @inline(__always) mutating func set(auxiliary: Bool) {
        carries = carries & ~(1 | RFLAGS.af << 16) | (auxiliary ? 1 : 0)
    }
}

extension FixedWidthInteger where Self: UnsignedInteger {
    @inline(__always) var signExtended: UInt64 {
        let shift = UInt64(64 - Self.bitWidth)
        return UInt64(bitPattern: Int64(bitPattern: UInt64(truncatingIfNeeded: self) &<< shift) &>> Int64(shift))
    }
}

extension StatusFlags {
    /// From the carry out of each bit position, and the result.
    @inline(__always) mutating func set<T: FixedWidthInteger & UnsignedInteger>(result value: T, carryOut: T) {
        result = value.signExtended
        let carry = UInt64(truncatingIfNeeded: carryOut)
        carries = (carry &<< UInt64(64 - T.bitWidth)) & (3 << 62) | (carry &>> 3 & 1)
    }

    /// As AND, OR, XOR and TEST leave them: CF, OF and AF clear. (AF is undefined there.)
    @inline(__always) mutating func setLogical<T: FixedWidthInteger & UnsignedInteger>(result value: T) {
        result = value.signExtended
        carries = RFLAGS.af << 16
    }

    @inline(__always) mutating func add<T: FixedWidthInteger & UnsignedInteger>(_ a: T, _ b: T, carry: T = 0) -> T {
        let sum = a &+ b &+ carry
        set(result: sum, carryOut: (a & b) | ((a | b) & ~sum))
        return sum
    }

    @inline(__always) mutating func subtract<T: FixedWidthInteger & UnsignedInteger>(
        _ a: T, _ b: T, borrow: T = 0
    ) -> T {
        let difference = a &- b &- borrow
        set(result: difference, carryOut: (~a & b) | (~(a ^ b) & difference))
        return difference
    }

    /// INC and DEC keep CF.
    @inline(__always) mutating func increment<T: FixedWidthInteger & UnsignedInteger>(_ a: T) -> T {
        let carry = carry
        let sum = add(a, 1)
        set(carry: carry)
        return sum
    }
    @inline(__always) mutating func decrement<T: FixedWidthInteger & UnsignedInteger>(_ a: T) -> T {
        let carry = carry
        let difference = subtract(a, 1)
        set(carry: carry)
        return difference
    }

    /// The condition of Jcc, SETcc and CMOVcc: SDM vol. 1, appendix B. `code` is the opcode's low four bits.
    @inline(__always) func condition(_ code: UInt8) -> Bool {
        let positive: Bool
        switch code >> 1 {
        case 0: positive = overflow
        case 1: positive = carry
        case 2: positive = zero
        case 3: positive = carry || zero
        case 4: positive = sign
        case 5: positive = parity
        case 6: positive = sign != overflow
        default: positive = zero || sign != overflow
        }
        return positive != (code & 1 != 0)
    }
}
