// Results and flags of the instructions that an assist emulates: SDM vol. 2, the entry of each.

/// RFLAGS bits.
enum Flag {
    static let carry: UInt64 = 1 << 0
    static let parity: UInt64 = 1 << 2
    static let adjust: UInt64 = 1 << 4
    static let zero: UInt64 = 1 << 6
    static let sign: UInt64 = 1 << 7
    static let direction: UInt64 = 1 << 10
    static let overflow: UInt64 = 1 << 11
    static let arithmetic = carry | parity | adjust | zero | sign | overflow
}

/// A result with the RFLAGS that go with it.
struct Computed {
    var value: UInt64
    var rflags: UInt64
}

/// Integer operations of 1, 2, 4 or 8 bytes. Operands are zero-extended.
struct Arithmetic {
    let byteCount: Int
    var mask: UInt64 { lowMask(byteCount) }
    var signBit: UInt64 { (mask >> 1) &+ 1 }

    /// ZF, SF and PF of a result.
    private func resultFlags(_ value: UInt64) -> UInt64 {
        var flags: UInt64 = 0
        if value & mask == 0 { flags |= Flag.zero }
        if value & signBit != 0 { flags |= Flag.sign }
        if (value & 0xFF).nonzeroBitCount & 1 == 0 { flags |= Flag.parity }
        return flags
    }

    func add(_ left: UInt64, _ right: UInt64, carry: UInt64 = 0, rflags: UInt64) -> Computed {
        let value = (left &+ right &+ carry) & mask
        var flags = rflags & ~Flag.arithmetic | resultFlags(value)
        // The carry out of each bit: majority of both operands and the inverted sum.
        let carries = (left & right) | ((left | right) & ~value)
        if carries & signBit != 0 { flags |= Flag.carry }
        if carries & 8 != 0 { flags |= Flag.adjust }
        if (left ^ value) & (right ^ value) & signBit != 0 { flags |= Flag.overflow }
        return Computed(value: value, rflags: flags)
    }

    func subtract(_ left: UInt64, _ right: UInt64, borrow: UInt64 = 0, rflags: UInt64) -> Computed {
        let value = (left &- right &- borrow) & mask
        var flags = rflags & ~Flag.arithmetic | resultFlags(value)
        let borrows = (~left & right) | ((~left | right) & value)
        if borrows & signBit != 0 { flags |= Flag.carry }
        if borrows & 8 != 0 { flags |= Flag.adjust }
        if (left ^ right) & (left ^ value) & signBit != 0 { flags |= Flag.overflow }
        return Computed(value: value, rflags: flags)
    }

    /// AND, OR, XOR, TEST: AF is undefined; as on current processors it is cleared.
    func logic(_ value: UInt64, rflags: UInt64) -> Computed {
        Computed(value: value & mask, rflags: rflags & ~Flag.arithmetic | resultFlags(value))
    }

    func increment(_ value: UInt64, rflags: UInt64) -> Computed {
        var result = add(value, 1, rflags: rflags)
        result.rflags = result.rflags & ~Flag.carry | rflags & Flag.carry
        return result
    }

    func decrement(_ value: UInt64, rflags: UInt64) -> Computed {
        var result = subtract(value, 1, rflags: rflags)
        result.rflags = result.rflags & ~Flag.carry | rflags & Flag.carry
        return result
    }

    enum Shift { case left, right, arithmeticRight }

    /// SHL, SHR, SAR. OF is defined for counts of 1 only and computed by the same rule for all.
    func shift(_ kind: Shift, _ value: UInt64, by rawCount: UInt64, rflags: UInt64) -> Computed {
        let count = rawCount & (byteCount == 8 ? 63 : 31)
        guard count != 0 else { return Computed(value: value, rflags: rflags) }
        let bits = UInt64(byteCount * 8)
        let result: UInt64
        let carry: Bool
        let overflow: Bool
        switch kind {
        case .left:
            result = count >= 64 ? 0 : value << count & mask
            carry = count <= bits && value >> (bits - count) & 1 != 0
            overflow = (result & signBit != 0) != carry
        case .right:
            result = value >> count
            carry = value >> (count - 1) & 1 != 0
            overflow = value & signBit != 0
        case .arithmeticRight:
            let wide = Int64(bitPattern: value.signExtended(from: byteCount))
            result = UInt64(bitPattern: wide >> Int64(count)) & mask
            carry = wide >> Int64(count - 1) & 1 != 0
            overflow = false
        }
        var flags = rflags & ~Flag.arithmetic | resultFlags(result)
        if carry { flags |= Flag.carry }
        if overflow { flags |= Flag.overflow }
        return Computed(value: result, rflags: flags)
    }

    /// ROL and ROR.
    func rotate(left: Bool, _ value: UInt64, by rawCount: UInt64, rflags: UInt64) -> Computed {
        let masked = rawCount & (byteCount == 8 ? 63 : 31)
        guard masked != 0 else { return Computed(value: value, rflags: rflags) }
        let bits = UInt64(byteCount * 8)
        let count = masked % bits
        let leftCount = left ? count : (bits - count) % bits
        let result = leftCount == 0 ? value : (value << leftCount | value >> (bits - leftCount)) & mask
        var flags = rflags & ~(Flag.carry | Flag.overflow)
        let carry = left ? result & 1 != 0 : result & signBit != 0
        if carry { flags |= Flag.carry }
        let overflow = left ? (result & signBit != 0) != carry : (result ^ result << 1) & signBit != 0
        if overflow { flags |= Flag.overflow }
        return Computed(value: result, rflags: flags)
    }

    enum BitChange { case test, set, reset, complement }

    /// BT, BTS, BTR, BTC of bit `index`, which is below the operand's width. Only CF changes.
    func bit(_ change: BitChange, _ value: UInt64, index: UInt64, rflags: UInt64) -> Computed {
        let bit = (1 as UInt64) << index
        let flags = rflags & ~Flag.carry | (value & bit != 0 ? Flag.carry : 0)
        let result =
            switch change {
            case .test: value
            case .set: value | bit
            case .reset: value & ~bit
            case .complement: value ^ bit
            }
        return Computed(value: result & mask, rflags: flags)
    }
}
