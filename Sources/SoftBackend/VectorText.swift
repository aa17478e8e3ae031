// PCMPESTRI and its like: SDM vol. 2, section 4.1, "Imm8 Control Byte Operation for PCMPESTRI / PCMPESTRM / ...".

/// What the immediate asks for.
struct TextComparison {
    private enum Aggregation { case equalAny, ranges, equalEach, equalOrdered }
    private let isWords: Bool
    private let isSigned: Bool
    private let aggregation: Aggregation
    /// Inverts the result: all of it, or where the second text is.
    private let inverts: Bool
    private let invertsValidOnly: Bool
    /// Of an index, the highest; of a mask, lanes rather than bits.
    private let bit6: Bool

    init(_ immediate: UInt8) {
        isWords = immediate & 1 != 0
        isSigned = immediate & 2 != 0
        aggregation = [.equalAny, .ranges, .equalEach, .equalOrdered][Int(immediate >> 2 & 3)]
        inverts = immediate & 0x10 != 0
        invertsValidOnly = immediate & 0x20 != 0
        bit6 = immediate & 0x40 != 0
    }

    /// Elements in a register: 16 bytes, or 8 words.
    var count: Int { isWords ? 8 : 16 }

    private func element(_ text: Vector128, _ index: Int) -> Int {
        switch (isWords, isSigned) {
        case (true, true): Int(text.signedHalves[index])
        case (true, false): Int(text.halves[index])
        case (false, true): Int(text.signedBytes[index])
        case (false, false): Int(text.bytes[index])
        }
    }

    /// Elements before the first that is zero.
    func length(_ text: Vector128) -> Int { (0..<count).first { element(text, $0) == 0 } ?? count }

    /// A length that a register gives: its magnitude, no more than there are elements.
    func length(_ register: Int64) -> Int { Int(min(register.magnitude, UInt64(count))) }

    /// One bit an element: IntRes2 of the manual.
    func result(_ first: Vector128, _ firstLength: Int, _ second: Vector128, _ secondLength: Int) -> UInt32 {
        var result: UInt32 = 0
        for index in 0..<count {
            let holds: Bool
            switch aggregation {
            case .equalAny:
                holds =
                    index < secondLength
                    && (0..<firstLength).contains { element(first, $0) == element(second, index) }
            case .ranges:
                let value = element(second, index)
                holds =
                    index < secondLength
                    && stride(from: 0, to: firstLength - 1, by: 2).contains {
                        element(first, $0) <= value && value <= element(first, $0 + 1)
                    }
            case .equalEach:
                let (isFirst, isSecond) = (index < firstLength, index < secondLength)
                holds = isFirst && isSecond ? element(first, index) == element(second, index) : isFirst == isSecond
            case .equalOrdered:
                // What is searched for must be there as far as the register shows.
                holds = (0..<min(firstLength, count - index)).allSatisfy {
                    index + $0 < secondLength && element(first, $0) == element(second, index + $0)
                }
            }
            if holds { result |= 1 << UInt32(index) }
        }
        guard inverts else { return result }
        let all: UInt32 = 1 << UInt32(count) - 1
        return result ^ (invertsValidOnly ? 1 << UInt32(secondLength) - 1 : all)
    }

    /// The lowest element of a result, or the highest; past the end where there is none.
    func index(of result: UInt32) -> UInt64 {
        if result == 0 { return UInt64(count) }
        return UInt64(bit6 ? 31 - result.leadingZeroBitCount : result.trailingZeroBitCount)
    }

    /// As many bits, or a lane of ones for each.
    func mask(of result: UInt32) -> Vector128 {
        guard bit6 else { return Vector128(low: UInt64(result)) }
        var bytes = SIMD16<UInt8>()
        for index in 0..<16 where result >> UInt32(isWords ? index / 2 : index) & 1 != 0 { bytes[index] = 0xFF }
        return Vector128(bytes)
    }
}
