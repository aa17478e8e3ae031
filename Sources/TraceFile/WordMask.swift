// A set of words of a VCPU state.

import NVMM

/// One bit for each of the 126 words of ``VCPUState``: bit n of `low` is word n, bit n of `high` word 64 + n.
struct WordMask: Hashable {
    static let rip = 36
    static let rflags = 37
    static let cr8 = 42
    static let tsc = 60
    static let interrupt = 61

    var low: UInt64 = 0
    var high: UInt64 = 0

    var isEmpty: Bool { low | high == 0 }

    @inline(__always) subscript(word: Int) -> Bool {
        (word < 64 ? low &>> UInt64(word) : high &>> UInt64(word &- 64)) & 1 != 0
    }

    @inline(__always) mutating func insert(_ word: Int) {
        if word < 64 { low |= 1 &<< UInt64(word) } else { high |= 1 &<< UInt64(word &- 64) }
    }

    /// The words of `parts`.
    init(parts: StateFlags) {
        // By hand: this stands in the encoder's loop, and the bounds are those of VCPUState.wordRange(of:).
        if parts.contains(.segments) { low |= 0xF_FFFF }
        if parts.contains(.gprs) { low |= 0x3_FFFF << 20 }
        if parts.contains(.crs) { low |= 0x3F << 38 }
        if parts.contains(.drs) { low |= 0x3F << 44 }
        if parts.contains(.msrs) { low |= 0x7FF << 50 }
        if parts.contains(.interrupt) { low |= 1 << 61 }
        if parts.contains(.fpu) {
            low |= 3 << 62
            high = 0x3FFF_FFFF_FFFF_FFFF
        }
    }

    init(low: UInt64 = 0, high: UInt64 = 0) {
        self.low = low
        self.high = high
    }

    mutating func formUnion(_ other: WordMask) {
        low |= other.low
        high |= other.high
    }

    func intersection(_ other: WordMask) -> WordMask { WordMask(low: low & other.low, high: high & other.high) }

    func subtracting(_ other: WordMask) -> WordMask { WordMask(low: low & ~other.low, high: high & ~other.high) }

    /// No bit beyond word 125.
    var isValid: Bool { high >> 62 == 0 }

    func isSubset(of other: WordMask) -> Bool { low & ~other.low == 0 && high & ~other.high == 0 }

    /// Calls `body` with each word, ascending.
    @inline(__always) func forEach(_ body: (Int) -> Void) {
        var rest = low
        while rest != 0 {
            body(rest.trailingZeroBitCount)
            rest &= rest &- 1
        }
        rest = high
        while rest != 0 {
            body(64 &+ rest.trailingZeroBitCount)
            rest &= rest &- 1
        }
    }

    /// As `forEach`, for bodies that throw.
    @inline(__always) func forEachThrowing(_ body: (Int) throws(TraceError) -> Void) throws(TraceError) {
        var rest = low
        while rest != 0 {
            try body(rest.trailingZeroBitCount)
            rest &= rest &- 1
        }
        rest = high
        while rest != 0 {
            try body(64 &+ rest.trailingZeroBitCount)
            rest &= rest &- 1
        }
    }
}
