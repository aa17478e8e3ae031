// Decimal adjustments and BOUND, which 64-bit mode does not have: SDM vol. 2.

import NVMM

extension CPU {
    private var al: UInt8 { read(0) }

    /// SF, ZF and PF from AL, CF and AF as given, OF (undefined) clear.
    private mutating func setDecimal(carry: Bool, auxiliary: Bool) {
        status.setLogical(result: al)
        status.set(carry: carry, overflow: false)
        status.set(auxiliary: auxiliary)
    }

    mutating func daa() {
        let old = al
        let oldCarry = status.carry
        let low = old & 0xF > 9 || status.auxiliary
        let high = old > 0x99 || oldCarry
        write(0, old &+ (low ? 6 : 0) &+ (high ? 0x60 : 0))
        setDecimal(carry: high, auxiliary: low)
    }

    mutating func das() {
        let old = al
        let oldCarry = status.carry
        let low = old & 0xF > 9 || status.auxiliary
        let high = old > 0x99 || oldCarry
        write(0, old &- (low ? 6 : 0) &- (high ? 0x60 : 0))
        // Unlike DAA, DAS keeps the borrow of its first step.
        setDecimal(carry: high || low && old < 6, auxiliary: low)
    }

    mutating func aaa() { adjustUnpacked { ax in ax &+ 0x106 } }
    mutating func aas() { adjustUnpacked { ax in ax &- 0x106 } }

    private mutating func adjustUnpacked(_ adjust: (UInt16) -> UInt16) {
        let adjusts = al & 0xF > 9 || status.auxiliary
        let ax: UInt16 = read(0)
        write(0, (adjusts ? adjust(ax) : ax) & 0xFF0F)
        setDecimal(carry: adjusts, auxiliary: adjusts)
    }

    mutating func aam(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let base = UInt8(truncatingIfNeeded: i.immediate)
        guard base != 0 else { throw .exception(.divideError) }
        let value = al
        write(0, UInt16(value / base) << 8 | UInt16(value % base))
        setDecimal(carry: false, auxiliary: false)
    }

    mutating func aad(_ i: borrowing DecodedInstruction) {
        let high: UInt8 = read(RegisterNumber.highByte)
        let sum = al &+ high &* UInt8(truncatingIfNeeded: i.immediate)
        write(0, UInt16(sum))
        setDecimal(carry: false, auxiliary: false)
    }

    @inline(never) mutating func bound(_ i: borrowing DecodedInstruction) throws(Interruption) {
        let offset = effectiveAddress(i)
        let second = truncate(offset &+ i.bytes, toAddressWidth: i.addressWidth)
        // Two's complement compare of either width: the sign moved to the top bit.
        let shift = i.width == 1 ? 48 as UInt64 : 32
        func signed(_ value: UInt64) -> Int64 { Int64(bitPattern: value << shift) }
        let index = read(i.register0, width: i.width)
        let lower = try load(i.segment, offset, width: i.width)
        // Intel's processors compare before they read the other bound.
        if model.isIntel, signed(index) < signed(lower) { throw .exception(.boundRange) }
        let upper = try load(i.segment, second, width: i.width)
        guard signed(index) >= signed(lower), signed(index) <= signed(upper) else { throw .exception(.boundRange) }
    }
}
